"""What is known of each method and preset, as plain values, for `ratchet methods`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

from ratchet.pipelines.spec.methods import METHOD_CONFIGS, Kind, MethodConfig
from ratchet.pipelines.spec.presets import preset_advice, preset_names, read_preset

ALLOWED_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "minimum": "at least {}",
        "exclusiveMinimum": "above {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "below {}",
    }
)


def all_methods() -> dict[str, dict[str, Any]]:
    """The facts of every method by type: family, needs, source, fields with their defaults."""
    return {name: method_facts(name) for name in METHOD_CONFIGS}


def all_presets() -> dict[str, dict[str, Any]]:
    """The facts of every preset by name: when to choose it, and what it sets."""
    return {name: preset_facts(name) for name in preset_names()}


def method_facts(name: str) -> dict[str, Any]:
    """What is known of a method, as plain values."""
    config = METHOD_CONFIGS[name]
    return {
        "type": name,
        "family": config.family,
        "summary": config.summary,
        "protects": config.protects,
        "cost": config.cost,
        "needs": _needs(config),
        "kinds": sorted(config.kinds),
        "source": config.source,
        "description": inspect.getdoc(config) or "",
        "fields": _fields(config),
    }


def preset_facts(name: str) -> dict[str, Any]:
    """What is known of a preset, as plain values."""
    spec = read_preset(name)
    types = [method["type"] for method in spec.get("methods", ())]
    known = [METHOD_CONFIGS[kind] for kind in types if kind in METHOD_CONFIGS]
    kinds = set(get_args(Kind)).intersection(*(config.kinds for config in known))
    return {
        "name": name,
        "when": preset_advice(name),
        "stack": types,
        "families": sorted({config.family for config in known}),
        "kinds": sorted(kinds),
        "spec": spec,
    }


def _needs(config: type[MethodConfig]) -> str:
    needs = ["old text kept" if config.stores_examples else "no old text"]
    if config.owns_structure:
        needs.append("a place before the other methods")
    if len(config.kinds) == 1:
        (kind,) = config.kinds
        needs.append({"classifier": "a classifier", "causal_lm": "a language model"}[kind])
    return ", ".join(needs)


def _fields(config: type[MethodConfig]) -> dict[str, dict[str, Any]]:
    raw = config.model_json_schema()["properties"]
    return {
        name: {"default": own.get("default"), "allowed": _allowed(own)}
        for name, own in raw.items()
        if name != "type"
    }


def _allowed(field: dict[str, Any]) -> str:
    """What a field may hold, from its JSON schema."""
    choices = field.get("anyOf") or field.get("oneOf")
    if choices is not None:
        return " or ".join(map(_allowed, choices))
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array":
        return f"a list of {_allowed(field.get('items', {}))}"
    kind = {"null": "nothing", "boolean": "true or false"}.get(field["type"], field["type"])
    limits = [words.format(field[key]) for key, words in ALLOWED_WORDS.items() if key in field]
    return f"{kind} {', '.join(limits)}".strip()
