"""Presets: vetted stacks of methods with their training settings, one YAML file each.

The first line of each file is a comment that says when to choose it.
"""

from __future__ import annotations

from pathlib import Path

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.files.yaml_file import read_yaml

PRESETS_FOLDER = Path(__file__).parent / "preset_files"


def preset_names() -> list[str]:
    """Names of the presets that ship with Ratchet."""
    return sorted(path.stem for path in PRESETS_FOLDER.glob("*.yaml"))


def read_preset(name: str) -> JsonObject:
    """The fields that a preset sets: `methods`, and by choice `training`, `gate` and `joint`."""
    return read_yaml(PRESETS_FOLDER / f"{name}.yaml")


def preset_advice(name: str) -> str:
    """When to choose a preset, in a sentence."""
    text = (PRESETS_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    return text.partition("\n")[0].removeprefix("#").strip()
