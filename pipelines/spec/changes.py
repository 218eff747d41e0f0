"""Changes to a spec from outside its file: `training.seed=1`, `methods.ewc.strength=10`."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.files.yaml_file import parse_yaml


@dataclass(frozen=True)
class Change:
    """A new value for one field.

    Attributes:
        path: Names and positions down to the field; a list of methods may be entered by type.
        value: The value, as YAML gives it.
    """

    path: tuple[str, ...]
    value: Any

    @property
    def reaches_into_methods(self) -> bool:
        """Whether it changes a method that a preset may bring, and not the whole list."""
        return self.path[0] == "methods" and len(self.path) > 1


def parse_changes(texts: Sequence[str]) -> list[Change]:
    """Changes from `field=value`.

    Raises:
        SpecError: A text is not of that form.
    """
    changes, problems = [], []
    for text in texts:
        path, equals, value = text.partition("=")
        parts = tuple(part.strip() for part in path.split("."))
        if not equals or not all(parts):
            hint = "Write it as training.seed=1"
            problems.append(Problem("--set", "a change is FIELD=VALUE", text, hint))
            continue
        changes.append(Change(parts, parse_yaml(value, f"--set {path}")))
    if problems:
        raise SpecError(problems)
    return changes


def apply_changes(raw: JsonObject, changes: Sequence[Change]) -> JsonObject:
    """A copy of a raw spec with fields changed; sections that are missing are made.

    Raises:
        SpecError: A path leads through something that has no fields.
    """
    changed = copy.deepcopy(raw)
    for change in changes:
        section: Any = changed
        for depth, part in enumerate(change.path[:-1]):
            section = _entered(section, part, change.path[: depth + 1])
        _put(section, change)
    return changed


def _entered(section: Any, part: str, path: tuple[str, ...]) -> Any:
    if isinstance(section, dict):
        if section.get(part) is None:
            section[part] = {}
        return section[part]
    return section[_position(section, part, path)]


def _put(section: Any, change: Change) -> None:
    if isinstance(section, dict):
        section[change.path[-1]] = change.value
    else:
        section[_position(section, change.path[-1], change.path)] = change.value


def _position(section: Any, part: str, path: tuple[str, ...]) -> int:
    """Where in a list an item stands: by number, or by its `type` or `name`."""
    where = f"--set {'.'.join(path)}"
    if not isinstance(section, list):
        raise SpecError([Problem(where, "there is nothing below this field", part)])
    if part.isascii() and part.isdecimal() and len(part) < 6 and int(part) < len(section):
        return int(part)
    names = [
        str(item.get("type", item.get("name", ""))) if isinstance(item, dict) else ""
        for item in section
    ]
    if part not in names:
        listed = ", ".join(name for name in names if name) or "none"
        raise SpecError([Problem(where, f"no such item; the list has: {listed}", part)])
    return names.index(part)
