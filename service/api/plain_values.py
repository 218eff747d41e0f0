# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""JSON and YAML from strangers, as plain values that every later layer can hold and write."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.files.yaml_file import parse_yaml
from ratchet.pipelines.spec.problems import path_of

MAX_DEPTH = 32
MAX_VALUES = 20_000
MAX_YAML_CHARACTERS = 64 * 1024
MAX_PROBLEMS = 50
SHOWN_NAME = 80
"""Characters of a field's name that a path shows."""
LARGEST_INTEGER = 2**63 - 1

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_INTEGERS = range(-LARGEST_INTEGER - 1, LARGEST_INTEGER + 1)


def parse_json(body: bytes) -> Any:
    """Plain values from a body.

    Raises:
        SpecError: It is not JSON, or holds what cannot be kept; says where.
    """
    try:
        value = json.loads(
            body.decode("utf-8"), object_pairs_hook=_object, parse_constant=_refuse_constant
        )
    except UnicodeDecodeError as error:
        raise SpecError(f"the body is not UTF-8: byte {error.start}") from error
    except RecursionError as error:
        raise SpecError("the body is nested too deeply") from error
    except json.JSONDecodeError as error:
        raise SpecError(
            f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error
    except ValueError as error:  # a constant, a name given twice, or a number of 4300 digits
        raise SpecError(f"the body is not JSON that is read here: {error}") from error
    check_plain(value)
    return value


def _object(pairs: list[tuple[str, Json]]) -> JsonObject:
    found: JsonObject = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the name {name[:80]!a} is given twice")
        found[name] = value
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def parse_spec_yaml(text: str, where: str) -> Any:
    """Plain values from a spec's YAML; aliases are refused, because they can grow without bound.

    Args:
        text: The YAML.
        where: The field that holds it.

    Raises:
        SpecError: It is not YAML, too long, or holds what a spec cannot hold; says where.
    """
    if len(text) > MAX_YAML_CHARACTERS:
        raise SpecError([Problem(where, f"longer than {MAX_YAML_CHARACTERS} characters")])
    _refuse_growth(text, where)
    value = parse_yaml(text, where)
    check_plain(value)
    return value


def _refuse_growth(text: str, where: str) -> None:
    """Refuse what would take much longer to read than it is long, before anything is built."""
    depth = 0
    for event in _events(text):
        if isinstance(event, yaml.AliasEvent):
            hint = "Write the value out"
            raise SpecError([Problem(where, "aliases are not read", f"*{event.anchor}", hint)])
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        if depth > MAX_DEPTH + 1:  # the outermost is level 0
            raise SpecError([Problem(where, f"nested deeper than {MAX_DEPTH} levels")])


def _events(text: str) -> Iterator[yaml.Event]:
    """What YAML consists of, as far as it can be read: the reading that follows says the rest."""
    try:
        yield from yaml.parse(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        return


def check_plain(value: Any) -> None:
    """Refuse what is too large or deep, or what no database or JSON reader could hold.

    Raises:
        SpecError: With every place, up to a limit.
    """
    problems: list[Problem] = []
    for count, (path, part) in enumerate(_walk(value, (), 0), start=1):
        if count > MAX_VALUES:
            raise SpecError(f"more than {MAX_VALUES} values; send less at once")
        if problem := _problem_of(path, part):
            problems.append(problem)
        if len(problems) >= MAX_PROBLEMS:
            break
    if problems:
        raise SpecError(problems)


def _walk(
    value: Any, path: tuple[int | str, ...], depth: int
) -> Iterator[tuple[tuple[int | str, ...], Any]]:
    yield path, value
    if depth > MAX_DEPTH:
        raise SpecError([Problem(path_of(path[:4]), f"nested deeper than {MAX_DEPTH} levels")])
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield (*path, "(name)"), name
            yield from _walk(part, (*path, str(name)[:SHOWN_NAME]), depth + 1)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            yield from _walk(part, (*path, index), depth + 1)


def _problem_of(path: tuple[int | str, ...], value: Any) -> Problem | None:
    if path and path[-1] == "(name)" and not isinstance(value, str):
        return Problem(path_of(path[:-1]), "a field's name is text", str(value)[:80])
    match value:
        case str() if _UNSTORABLE.search(value):
            return Problem(
                _shown(path_of(path)), "text cannot hold NUL or halves of surrogate pairs"
            )
        case bool() | None | str() | list() | dict():
            return None
        case int() if value not in _INTEGERS:
            return Problem(path_of(path), "whole numbers have at most 64 bits")
        case float() if value != value or value in (float("inf"), float("-inf")):
            return Problem(path_of(path), "should be a finite number", str(value))
        case int() | float():
            return None
        case _:
            hint = "Put text that looks like a date in quotes"
            return Problem(path_of(path), f"a spec cannot hold a {type(value).__name__}", hint=hint)


def _shown(where: str) -> str:
    return _UNSTORABLE.sub("�", where)
