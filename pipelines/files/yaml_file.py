"""YAML read safely: no tags that build objects, no key given twice, every failure a `SpecError`."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from ratchet.pipelines.errors import Problem, SpecError

MERGE_TAG = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[Hashable] = set()
        for key_node, _ in node.value:
            if key_node.tag == MERGE_TAG:
                continue  # `<<` may be given twice, and its keys may be overridden
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise _at(key_node, "a key must be a plain value, not a list or mapping")
            if key in keys:
                raise _at(key_node, f"the key {key!r} is given twice")
            keys.add(key)
        return super().construct_mapping(node, deep)


def _at(node: yaml.Node, problem: str) -> yaml.constructor.ConstructorError:
    return yaml.constructor.ConstructorError(None, None, problem, node.start_mark)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file, as plain values.

    Raises:
        SpecError: The file cannot be read or is not YAML; says where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, or no possible path
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise SpecError([Problem(str(path), f"the spec cannot be read: {reason}")]) from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, where: str) -> Any:
    """Plain values from YAML text.

    Args:
        text: The YAML.
        where: What the text is, for messages.

    Raises:
        SpecError: It is not YAML; says the line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        parts = [getattr(error, name, None) for name in ("context", "problem", "reason")]
        reason = ", ".join(part for part in parts if part) or "broken"
        raise SpecError([Problem(place, f"not valid YAML: {reason}")]) from error
    except (ValueError, OverflowError) as error:  # a date such as 2026-02-31, say
        hint = "Put text that looks like a date or number in quotes"
        raise SpecError([Problem(where, f"not valid YAML: {error}", hint=hint)]) from error
    except RecursionError as error:
        raise SpecError([Problem(where, "not a spec: nested too deeply")]) from error
