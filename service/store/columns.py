# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""Column types that hold the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from sqlalchemy import JSON, BigInteger, Dialect, Integer, Text
from sqlalchemy.types import TypeDecorator, TypeEngine

from ratchet.service.errors import DatabaseSchemaError

Model = TypeVar("Model", bound=BaseModel)

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


class AnyJson(TypeDecorator[Any]):
    """A JSON value of any form; numbers that JSON does not have (NaN, infinities) become null."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def coerce_compared_value(self, op: Any, value: Any) -> TypeEngine[Any]:
        """The type of what the column is compared with."""
        return self.impl_instance.coerce_compared_value(op, value)

    def process_bind_param(self, value: Any, dialect: Dialect) -> Any:  # noqa: ARG002
        """The value as it is stored."""
        return plain_json(value)


class Document(TypeDecorator[Model]):
    """A record of ours as a JSON object; a row that holds another form is refused.

    Args:
        kind: The record.
    """

    impl = JSON(none_as_null=True)
    cache_ok = True

    def __init__(self, kind: type[Model]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: Model | None, dialect: Dialect) -> Any:  # noqa: ARG002
        """The record as it is stored."""
        return None if value is None else plain_json(value.model_dump(mode="json"))

    def process_result_value(self, value: Any, dialect: Dialect) -> Model | None:  # noqa: ARG002
        """The record that was stored.

        Raises:
            DatabaseSchemaError: The row holds another form.
        """
        if value is None:
            return None
        try:
            found = self.kind.model_validate(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise self._refusal(f"{where}: {first['msg']}" if where else first["msg"]) from error
        if unknown := value.keys() - self.kind.model_fields.keys():
            raise self._refusal(f"{min(unknown)}: unknown field")
        return found

    def _refusal(self, reason: str) -> DatabaseSchemaError:
        return DatabaseSchemaError(
            f"database: a row holds no {self.kind.__name__} of this release ({reason}). Another "
            "release wrote it: run that one on this database, or bring back a backup"
        )


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
