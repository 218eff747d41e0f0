"""What one process writes and another reads: JSON with a format number, read into a type."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.files.json_value import Json

T = TypeVar("T")

FORMAT_KEY = "format"


def read_format(kind: type[T], raw: Json, number: int, where: str, hint: str) -> T:
    """A typed value from plain ones that stand beside their format number.

    Args:
        kind: A dataclass, or another type that pydantic can check.
        raw: The plain values, `format` among them.
        number: The only format that is read.
        where: What was read, for the message.
        hint: What to do about one that cannot be read, as the end of a sentence.

    Raises:
        VersionError: They are of another format, or not what this format says.
    """
    check_format(raw, number, where, hint)
    return checked(kind, raw, where, hint)


def checked(kind: type[T], raw: Json, where: str, hint: str) -> T:
    """A typed value from plain ones that belong to something with a format number of its own.

    Arguments as of `read_format`; keys that the type does not have are passed over.

    Raises:
        VersionError: They are not what the type says.
    """
    try:
        return _adapter(kind).validate_python(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{where} is broken: {place}: {first['msg']}; {hint}"
        raise VersionError(message) from error


def check_format(raw: Json, number: int, where: str, hint: str) -> None:
    """Refuse what is of another format; arguments as above.

    Raises:
        VersionError: It is, or it says of no format that it is of it.
    """
    found = raw.get(FORMAT_KEY) if isinstance(raw, dict) else None
    if type(found) is not int:
        raise VersionError(f"{where} has no format number, so it is broken or not ours; {hint}")
    if found != number:
        writer = "a newer" if found > number else "an older"
        raise VersionError(
            f"{where} has format {found} and was written by {writer} release of Ratchet; this one "
            f"reads format {number}: {hint}"
        )


def read_format_file(kind: type[T], path: Path, number: int, hint: str) -> T:
    """A typed value from a file; arguments as of `read_format`.

    Raises:
        VersionError: The file is no JSON, of another format, or not what the format says.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise VersionError(f"{path} is broken: {error}; {hint}") from error
    return read_format(kind, raw, number, str(path), hint)


def plain(value: object) -> Json:
    """Plain values as reading them back gives them: with lists for tuples."""
    if isinstance(value, Mapping):
        return {str(name): plain(own) for name, own in value.items()}
    if isinstance(value, list | tuple):
        return [plain(own) for own in value]
    return cast("Json", value)


@cache
def _adapter(kind: type[T]) -> TypeAdapter[T]:
    """Made once a type: it compiles the checks."""
    return cast("TypeAdapter[T]", TypeAdapter(kind))
