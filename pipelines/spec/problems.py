"""What pydantic says of a spec, in our words: field, value, what is allowed, the nearest name."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.files.json_value import Json
from ratchet.pipelines.spec import update_spec as config
from ratchet.pipelines.spec.methods import METHOD_CONFIGS, MethodConfig
from ratchet.pipelines.spec.section import NUMBER_TAG
from ratchet.pipelines.spec.update_spec import UpdateSpec

SECTIONS: Mapping[str, type[BaseModel]] = MappingProxyType(
    {
        "model": config.ModelSpec,
        "tasks": config.TaskSpec,
        "stream": config.StreamSpec,
        "columns": config.ColumnsSpec,
        "data": config.DataSpec,
        "training": config.TrainingSpec,
        "scaling": config.ScalingSpec,
        "gate": config.GateSpec,
        "routing": config.RoutingSpec,
        "evaluation": config.EvaluationSpec,
        "stability_decay": config.StabilityDecaySpec,
        "tune": config.TuneSpec,
    }
)
QUOTE_HINT = "Put it in quotes if it is meant as text"
NAME_RULE = "1 to 64 letters, digits, `_`, `.` or `-`, the first a letter or digit"

_CUTS = frozenset(".[]")
_LIST = "should be a list"
_MESSAGES: Mapping[str, str] = MappingProxyType(
    {
        "tuple_type": _LIST,
        "list_type": _LIST,
        "model_type": "should be a mapping of fields",
        "model_attributes_type": "should be a mapping of fields",
        "dict_type": "should be a mapping",
        "string_pattern_mismatch": f"a name is {NAME_RULE}",
        "finite_number": "should be a finite number",
        "recursion_loop": "contains itself",
        "invalid_key": "a field's name is text",
        "int_parsing_size": "is too large",
    }
)

_REPLACED: Mapping[str, str] = MappingProxyType(
    {
        "gate.decide_over": (
            "Both measures are held now, each to its own limit: give gate.max_forgetting (each "
            "task among its own labels) and gate.max_served_loss (as `auto` answers); 1.0 holds "
            "a measure to nothing"
        ),
    }
)
"""Fields that earlier releases had, by path, and what stands in their place."""


def problem_of(detail: ErrorDetails, raw: Mapping[str, Json]) -> Problem:
    """One pydantic error as a problem.

    Args:
        detail: What pydantic says.
        raw: The spec that it was said of.
    """
    location = _without_tag(detail["loc"])
    where, value = path_of(location), detail.get("input")
    match detail["type"]:
        case "extra_forbidden" if where in _REPLACED:
            return Problem(where, "this field is no more", value, _REPLACED[where])
        case "extra_forbidden":
            section = _model_at(location[:-1], raw)
            return unknown(where, str(location[-1]), section.model_fields, "field")
        case "missing":
            return Problem(where, "this field is required")
        case "union_tag_invalid":
            kind = value.get("type") if isinstance(value, Mapping) else value
            return unknown(f"{where}.type", kind, METHOD_CONFIGS, "method")
        case "union_tag_not_found":
            allowed = ", ".join(METHOD_CONFIGS)
            return Problem(f"{where}.type", f"a method needs a type, one of: {allowed}", value)
        case "literal_error":
            expected = str(detail.get("ctx", {}).get("expected", ""))
            allowed = expected.replace("'", "").replace(" or ", ", ").split(", ")
            return unknown(where, value, allowed, "value")
        case _:
            return _plain_problem(detail, where, value)


def is_echo(detail: ErrorDetails, details: Iterable[ErrorDetails]) -> bool:
    """Whether an error only says again that items of a list are wrong: too few are left then."""
    location = detail["loc"]
    below = (own["loc"] for own in details if len(own["loc"]) > len(location))
    return detail["type"] == "too_short" and any(own[: len(location)] == location for own in below)


def _plain_problem(detail: ErrorDetails, where: str, value: Any) -> Problem:
    kind = detail["type"]
    if kind == "too_short":
        least = detail.get("ctx", {}).get("min_length", 1)
        words = "one item" if least == 1 else f"{least} items"
        return Problem(where, f"needs at least {words}", value)
    message = _MESSAGES.get(kind, detail["msg"].removeprefix("Value error, "))
    if detail["loc"] and detail["loc"][-1] == NUMBER_TAG:
        message += ", or the input should be auto"
    hint = ""
    if kind == "string_type" and isinstance(value, bool | int | float):
        hint = QUOTE_HINT
    if value is None:
        message += ", and nothing is given"
        hint = "Give a value, or remove the field"
    return Problem(where, message[0].lower() + message[1:], value, hint)


def unknown(where: str, value: Any, allowed: Iterable[str], noun: str) -> Problem:
    """A name that does not exist, with the nearest that does."""
    names = list(allowed)
    near = difflib.get_close_matches(str(value)[:100], names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else ""
    return Problem(where, f"unknown {noun}; allowed: {', '.join(names)}", value, hint)


def path_of(location: Iterable[int | str]) -> str:
    """The path of a field: `methods[1].strength`.

    A name that holds what paths are cut at stands in quotes: `metadata["a.b"]`.
    """
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not part or _CUTS.intersection(part):
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
        else:
            text += f".{part}" if text else part
    return text


def parameter_path(name: str) -> str:
    """The path of a searched field's range: `tune.parameters["training.learning_rate"]`."""
    return path_of(("tune", "parameters", name))


def _without_tag(location: Sequence[int | str]) -> list[int | str]:
    """A location without what pydantic adds: a method's type, a range's kind, a union's branch."""
    parts = list(location)
    if parts and parts[-1] == NUMBER_TAG:
        parts.pop()
    if parts[:2] == ["tune", "parameters"]:
        return parts[:3] + parts[4:]
    is_tagged = len(parts) > 2 and parts[0] == "methods" and parts[2] in METHOD_CONFIGS
    return parts[:2] + parts[3:] if is_tagged else parts


def _model_at(location: Sequence[int | str], raw: Mapping[str, Json]) -> type[BaseModel]:
    """The config class that validates the section at `location`."""
    if not location:
        return UpdateSpec
    if location[0] == "methods" and len(location) > 1 and isinstance(location[1], int):
        methods: Any = raw["methods"]  # a list of mappings, or pydantic had not looked inside
        return METHOD_CONFIGS.get(methods[location[1]].get("type"), MethodConfig)
    return SECTIONS.get(str(location[0]), UpdateSpec)
