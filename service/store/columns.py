"""Column types that hold the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from sqlalchemy import JSON, BigInteger, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

# PostgreSQL cannot store NUL, and neither database a lone half of a UTF-16 pair.
_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")
_REPLACEMENT = "�"


class Words(TypeDecorator[str]):
    """Text of any length; characters that no database can store become U+FFFD."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """The text as it is stored."""
        return None if value is None else storable(value)


class Json(TypeDecorator[Any]):
    """A JSON value; numbers that JSON does not have (NaN, infinities) become null."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        """The type of what the column is compared with."""
        return self.impl_instance.coerce_compared_value(op, value)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """The value as it is stored."""
        return plain_json(value)


Number = BigInteger().with_variant(Integer, "sqlite")
"""Whole numbers of 64 bits; SQLite numbers rows of its own accord only for INTEGER."""


def storable(text: str) -> str:
    """A text without the characters that a database cannot store."""
    return _UNSTORABLE.sub(_REPLACEMENT, text)


def plain_json(value: Any) -> Any:
    """A value that every JSON reader and both databases take."""
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {storable(str(name)): plain_json(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [plain_json(part) for part in value]
    return value


def canonical_json(value: Any) -> str:
    """The one text that equal JSON values share."""
    return json.dumps(plain_json(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
