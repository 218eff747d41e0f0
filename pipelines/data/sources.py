"""Reading a split: JSON Lines, CSV, Parquet or a saved Hugging Face data set, local or remote."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, cast

import numpy as np

from pipelines.config import ColumnsSpec
from pipelines.data.locations import Location, locate
from pipelines.data.readers import READERS, Broken, Record, format_suffix
from pipelines.data.rows import Origins, Rows
from pipelines.data.saved_dataset import read_saved_dataset
from pipelines.errors import Problem

__all__ = ["Rows", "read_rows", "read_rows_into"]

MAX_PROBLEMS_PER_FILE = 10
"""Broken rows that are reported one by one; of the others only the number is."""

Value = tuple[str, int, str, str, str | None]
"""File, line, text, label, group."""


def read_rows(
    uri: str, columns: ColumnsSpec, group_column: str | None = None
) -> tuple[Rows, list[Problem]]:
    """Every sound row of the files that `uri` stands for, and a problem for each that is not.

    Args:
        uri: A file, a folder or a glob; a local path, or a URI with an allowed scheme.
        columns: Names of the columns that hold text and label.
        group_column: The column that cuts a stream into tasks, if any.
    """
    return read_rows_into(list, uri, columns, group_column)


def read_rows_into(
    keep_texts: Callable[[Iterator[str]], Sequence[str]],
    uri: str,
    columns: ColumnsSpec,
    group_column: str | None = None,
) -> tuple[Rows, list[Problem]]:
    """As `read_rows`, with the texts where `keep_texts` puts them while they are read."""
    location = locate(uri)
    problems = [location] if isinstance(location, Problem) else []
    read = _Columns(group_column is not None)
    texts = keep_texts(
        iter(())
        if isinstance(location, Problem)
        else map(read.add, read_location(location, columns, group_column, problems))
    )
    return read.rows(texts), problems


def read_location(
    location: Location, columns: ColumnsSpec, group_column: str | None, problems: list[Problem]
) -> Iterator[Value]:
    """The sound rows of a location, one after the other; what is wrong is added to `problems`."""
    wanted = [columns.text, columns.label, *([] if group_column is None else [group_column])]
    kept: dict[str, str] = {}
    for path in location.files:
        file, num_broken = location.shown(path), 0
        for line, record in _records(location, path, wanted):
            row = record if isinstance(record, Broken) else _sound(record, wanted)
            if not isinstance(row, Broken):
                text, label, group = row
                yield (
                    file,
                    line,
                    text,
                    kept.setdefault(label, label),
                    group and kept.setdefault(group, group),
                )
                continue
            num_broken += 1
            if num_broken <= MAX_PROBLEMS_PER_FILE:
                problems.append(_problem(f"{file}:{line}", row))
        if num_broken > MAX_PROBLEMS_PER_FILE:
            unnamed = num_broken - MAX_PROBLEMS_PER_FILE
            problems.append(Problem(file, f"{unnamed} more rows of this file are broken"))


def _records(location: Location, path: str, wanted: list[str]) -> Iterator[Record]:
    if location.is_saved_dataset:
        yield from read_saved_dataset(location.filesystem, path, wanted)
        return
    reader = READERS[format_suffix(path) or ""]
    line = 0
    try:
        with location.filesystem.open(path, "rb", compression="infer") as file:
            for line, record in reader(cast(BinaryIO, file), wanted):
                yield line, record
    except (OSError, EOFError) as error:
        yield line + 1, Broken(f"the file cannot be read on from here: {error}")


def _sound(record: Any, wanted: list[str]) -> tuple[str, str, str | None] | Broken:
    """Text, label and group as strings, or what is wrong with them."""
    text, *names = record
    if not isinstance(text, str):
        return Broken(f"the text (column {wanted[0]!r}) must be a string", _shown(text))
    if not text.strip():
        return Broken(f"empty text (column {wanted[0]!r})", hint="Remove the row")
    for position, name in enumerate(names):
        if isinstance(name, bool) or not isinstance(name, str | int):
            return Broken(
                f"column {wanted[position + 1]!r} must be a string or an integer", _shown(name)
            )
        names[position] = str(name)
        if not names[position].strip():
            return Broken(f"empty label or task (column {wanted[position + 1]!r})")
    if any(_is_broken_unicode(string) for string in (text, *names)):
        return Broken("half a character (an unpaired surrogate)", hint="Save the row as UTF-8")
    return text, names[0], names[1] if len(names) > 1 else None


def _is_broken_unicode(text: str) -> bool:
    """Whether a text is none: the escapes of JSON can spell half of a surrogate pair."""
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)


def _shown(value: Any) -> Any:
    return "null" if value is None else value


def _problem(where: str, broken: Broken) -> Problem:
    if not broken.absent:
        return Problem(where, broken.message, broken.value, broken.hint)
    name = broken.absent[0]
    near = difflib.get_close_matches(name, broken.present, n=1)
    return Problem(
        where,
        f"missing column {name!r}; the columns there are: {', '.join(map(repr, broken.present))}",
        hint=f"Did you mean {near[0]!r}? Set it under `columns`"
        if near
        else "Set the names under `columns`",
    )


class _Columns:
    """Gathers all of the rows but their texts."""

    def __init__(self, has_groups: bool) -> None:
        self.labels: list[str] = []
        self.groups: list[str] | None = [] if has_groups else None
        self.files: dict[str, int] = {}
        self.file_ids = array("i")
        self.lines = array("q")

    def add(self, value: Value) -> str:
        """Take in a row and give back its text."""
        file, line, text, label, group = value
        self.file_ids.append(self.files.setdefault(file, len(self.files)))
        self.lines.append(line)
        self.labels.append(label)
        if self.groups is not None and group is not None:
            self.groups.append(group)
        return text

    def rows(self, texts: Sequence[str]) -> Rows:
        """The rows with these texts."""
        file_ids, lines = np.array(self.file_ids, np.int32), np.array(self.lines, np.int64)
        return Rows(texts, self.labels, self.groups, Origins(list(self.files), file_ids, lines))
