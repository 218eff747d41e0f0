"""What is known of each method and preset, as plain values, for `ratchet methods`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, get_args

from ratchet.pipelines.files.json_value import Json, JsonObject
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


@dataclass(frozen=True)
class FieldFacts:
    """A field of a method: its default, and what it may hold in words."""

    default: Json
    allowed: str


@dataclass(frozen=True)
class MethodFacts:
    """What is known of a method.

    Attributes:
        type: Its name in a spec.
        family: The family that it belongs to.
        summary: What it does.
        protects: What it protects.
        cost: What it costs.
        needs: What it needs, in words.
        kinds: The kinds of model that it works with.
        source: The paper.
        description: All of it.
        fields: Its fields by name.
    """

    type: str
    family: str
    summary: str
    protects: str
    cost: str
    needs: str
    kinds: list[str]
    source: str
    description: str
    fields: dict[str, FieldFacts]


@dataclass(frozen=True)
class PresetFacts:
    """What is known of a preset.

    Attributes:
        name: Its name in a spec.
        when: When to choose it.
        stack: The types of its methods, in order.
        families: Their families.
        kinds: The kinds of model that all of them work with.
        spec: The fields that it sets.
    """

    name: str
    when: str
    stack: list[str]
    families: list[str]
    kinds: list[str]
    spec: JsonObject


def all_methods() -> dict[str, MethodFacts]:
    """The facts of every method by type."""
    return {name: method_facts(name) for name in METHOD_CONFIGS}


def all_presets() -> dict[str, PresetFacts]:
    """The facts of every preset by name."""
    return {name: preset_facts(name) for name in preset_names()}


def method_facts(name: str) -> MethodFacts:
    """What is known of a method."""
    config = METHOD_CONFIGS[name]
    return MethodFacts(
        type=name,
        family=config.family,
        summary=config.summary,
        protects=config.protects,
        cost=config.cost,
        needs=_needs(config),
        kinds=sorted(config.kinds),
        source=config.source,
        description=inspect.getdoc(config) or "",
        fields=_fields(config),
    )


def preset_facts(name: str) -> PresetFacts:
    """What is known of a preset."""
    spec = read_preset(name)
    methods = spec.get("methods", ())
    assert isinstance(methods, Sequence), "a preset's methods are a list"
    types = [str(method["type"]) for method in methods if isinstance(method, Mapping)]
    known = [METHOD_CONFIGS[kind] for kind in types if kind in METHOD_CONFIGS]
    kinds = set(get_args(Kind)).intersection(*(config.kinds for config in known))
    return PresetFacts(
        name=name,
        when=preset_advice(name),
        stack=types,
        families=sorted({config.family for config in known}),
        kinds=sorted(kinds),
        spec=spec,
    )


def _needs(config: type[MethodConfig]) -> str:
    needs = ["old text kept" if config.stores_examples else "no old text"]
    if config.owns_structure:
        needs.append("a place before the other methods")
    if len(config.kinds) == 1:
        (kind,) = config.kinds
        needs.append({"classifier": "a classifier", "causal_lm": "a language model"}[kind])
    return ", ".join(needs)


def _fields(config: type[MethodConfig]) -> dict[str, FieldFacts]:
    raw = config.model_json_schema()["properties"]
    return {
        name: FieldFacts(default=own.get("default"), allowed=_allowed(own))
        for name, own in raw.items()
        if name != "type"
    }


def _allowed(field: Any) -> str:
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
