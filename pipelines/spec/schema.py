"""The spec for people and editors who write one: its JSON schema, and an example with comments."""

from __future__ import annotations

from pathlib import Path

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.spec.update_spec import UpdateSpec

EXAMPLE_FILE = Path(__file__).parent / "example_spec.yaml"


def spec_schema() -> JsonObject:
    """The JSON schema of a spec."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **UpdateSpec.model_json_schema(),
    }


def example_spec() -> str:
    """A spec to start from, as YAML with comments."""
    return EXAMPLE_FILE.read_text(encoding="utf-8")
