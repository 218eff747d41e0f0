"""Reading a split: JSON Lines, CSV, Parquet or a saved Hugging Face data set, local or remote."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, cast

import numpy as np

from ratchet.pipelines.data.locations import Location, locate
from ratchet.pipelines.data.readers import READERS, Broken, Record, format_suffix
from ratchet.pipelines.data.recipes import Instructions, LabelledText, LanguageData, Recipe, as_name
from ratchet.pipelines.data.rows import Origins, Rows
from ratchet.pipelines.data.saved_dataset import read_saved_dataset
from ratchet.pipelines.errors import Problem, is_passing
from ratchet.pipelines.spec.update_spec import ColumnsSpec

__all__ = ["Rows", "read_rows", "read_rows_into"]

MAX_PROBLEMS_PER_FILE = 10
"""Broken rows that are reported one by one; of the others only the number is."""

NO_COLUMN = "\x1e"
"""Asked for where only the names of the columns are wanted: no file has such a one."""

Value = tuple[str, int, str, str, str | None]
"""File, line, text, label, group."""


def read_rows(
    uri: str,
    columns: ColumnsSpec,
    group_column: str | None = None,
    language: LanguageData | None = None,
) -> tuple[Rows, list[Problem]]:
    """Every sound row of the files that `uri` stands for, and a problem for each that is not.

    Args:
        uri: A file, a folder or a glob; a local path, or a URI with an allowed scheme.
        columns: Names of the columns that hold text and label.
        group_column: The column that cuts a stream into tasks, if any.
        language: Given where the rows are for a language model.
    """
    return read_rows_into(list, uri, columns, group_column, language)


def read_rows_into(
    keep_texts: Callable[[Iterator[str]], Sequence[str]],
    uri: str,
    columns: ColumnsSpec,
    group_column: str | None = None,
    language: LanguageData | None = None,
) -> tuple[Rows, list[Problem]]:
    """As `read_rows`, with the texts where `keep_texts` puts them while they are read."""
    location = locate(uri)
    problems = [location] if isinstance(location, Problem) else []
    read = _Columns(group_column is not None)
    values: Iterator[Value] = iter(())
    if isinstance(location, Location):
        recipe = _recipe(location, columns, language)
        if isinstance(recipe, Broken):
            problems.append(_problem(uri, recipe))
        else:
            values = read_location(location, recipe, group_column, problems)
    texts = keep_texts(map(read.add, values))
    return read.rows(texts), problems


def _recipe(
    location: Location, columns: ColumnsSpec, language: LanguageData | None
) -> Recipe | Broken:
    """How the records of a location become rows; a language model's by the columns there are."""
    if language is None:
        return LabelledText(columns)
    for path in location.files:
        for _, record in _records(location, path, [NO_COLUMN]):
            if isinstance(record, Broken) and record.present:
                return language.recipe(columns, record.present)
    return Instructions(columns)  # nothing can be read: reading says what is wrong, line by line


def read_location(
    location: Location, recipe: Recipe, group_column: str | None, problems: list[Problem]
) -> Iterator[Value]:
    """The sound rows of a location, one after the other; what is wrong is added to `problems`."""
    wanted = [*recipe.columns, *([] if group_column is None else [group_column])]
    kept: dict[str, str] = {}
    for path in location.files:
        file, num_broken = location.shown(path), 0
        for line, record in _records(location, path, wanted):
            rows = record if isinstance(record, Broken) else _made(record, recipe, group_column)
            if not isinstance(rows, Broken):
                for offset, text, label, group in rows:
                    name = kept.setdefault(label, label)
                    yield file, line + offset, text, name, group and kept.setdefault(group, group)
                continue
            num_broken += 1
            if num_broken <= MAX_PROBLEMS_PER_FILE:
                problems.append(_problem(f"{file}:{line}", rows))
        if num_broken > MAX_PROBLEMS_PER_FILE:
            unnamed = num_broken - MAX_PROBLEMS_PER_FILE
            problems.append(Problem(file, f"{unnamed} more rows of this file are broken"))


def _made(
    record: Sequence[Any], recipe: Recipe, group_column: str | None
) -> list[tuple[int, str, str, str | None]] | Broken:
    """The rows of a record with their group, or what is wrong with it."""
    values, group = record, None
    if group_column is not None:
        *values, name = record
        group = as_name(name, group_column)
    rows = recipe.rows(values)
    if isinstance(rows, Broken) or isinstance(group, Broken):
        return rows if isinstance(rows, Broken) else cast("Broken", group)
    return [(offset, text, label, group) for offset, text, label in rows]


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
        if is_passing(error):
            raise  # of the disk or the network, not of the row
        yield line + 1, Broken(f"the file cannot be read on from here: {error}")


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
