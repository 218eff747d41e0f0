"""Rows of a data set as they were read: text, label, group, and where each one stands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray


class Origins(Sequence[str]):
    """Where rows stand, as `file:line`; the strings are made only when asked for.

    Args:
        files: The files that were read.
        file_ids: Position in `files` of each row's file, [rows].
        lines: Line (or row, for formats without lines) of each row in its file, from 1, [rows].
    """

    def __init__(
        self, files: Sequence[str], file_ids: NDArray[np.int32], lines: NDArray[np.int64]
    ) -> None:
        self.files = tuple(files)
        self.file_ids = file_ids
        self.lines = lines

    def __len__(self) -> int:
        return len(self.lines)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Origins: ...
    def __getitem__(self, index: int | slice) -> str | Origins:
        if isinstance(index, slice):
            return Origins(self.files, self.file_ids[index], self.lines[index])
        return f"{self.files[self.file_ids[index]]}:{self.lines[index]}"

    def take(self, indices: NDArray[np.int64]) -> Origins:
        """The origins at `indices`, in that order."""
        return Origins(self.files, self.file_ids[indices], self.lines[indices])


class TakenTexts(Sequence[str]):
    """Some of the texts of another sequence, looked up when they are asked for."""

    def __init__(self, texts: Sequence[str], indices: NDArray[np.int64]) -> None:
        self.texts = texts
        self.indices = indices

    def __len__(self) -> int:
        return len(self.indices)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> TakenTexts: ...
    def __getitem__(self, index: int | slice) -> str | TakenTexts:
        if isinstance(index, slice):
            return TakenTexts(self.texts, self.indices[index])
        return self.texts[int(self.indices[index])]

    def __iter__(self) -> Iterator[str]:
        positions: list[int] = self.indices.tolist()
        return (self.texts[position] for position in positions)


class JoinedTexts(Sequence[str]):
    """The texts of several sequences one after the other, without a copy of them."""

    def __init__(self, parts: Sequence[Sequence[str]]) -> None:
        self.parts = tuple(parts)
        self.ends = np.cumsum([len(part) for part in self.parts], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.ends[-1]) if self.parts else 0

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> TakenTexts: ...
    def __getitem__(self, index: int | slice) -> str | TakenTexts:
        if isinstance(index, slice):
            return TakenTexts(self, np.arange(len(self))[index])
        row = index + len(self) if index < 0 else index
        if not 0 <= row < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        part = int(np.searchsorted(self.ends, row, side="right"))
        first = int(self.ends[part]) - len(self.parts[part])
        return self.parts[part][row - first]

    def __iter__(self) -> Iterator[str]:
        for part in self.parts:
            yield from part


@dataclass(frozen=True)
class Rows:
    """Rows of one split, column by column.

    Attributes:
        texts: The text of each row; a list, or looked up lazily where data exceed the budget.
        labels: The label of each row.
        groups: The value of the column that cuts a stream into tasks, or None where there is none.
        origins: `file:line` of each row, for messages.
    """

    texts: Sequence[str]
    labels: Sequence[str]
    groups: Sequence[str] | None
    origins: Origins

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Sequence[int] | NDArray[np.int64]) -> Rows:
        """The rows at `indices`, in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        positions: list[int] = chosen.tolist()
        if isinstance(self.texts, list):
            texts: Sequence[str] = [self.texts[i] for i in positions]
        elif isinstance(self.texts, TakenTexts):
            texts = TakenTexts(self.texts.texts, self.texts.indices[chosen])
        else:
            texts = TakenTexts(self.texts, chosen)
        return Rows(
            texts=texts,
            labels=[self.labels[i] for i in positions],
            groups=None if self.groups is None else [self.groups[i] for i in positions],
            origins=self.origins.take(chosen),
        )


@dataclass(frozen=True)
class TaskRows:
    """One task of a stream with its splits.

    Attributes:
        name: Unique in the stream and in its lineage.
        labels: The labels of its training rows, sorted unless the stream orders them as given.
        train: What is learned.
        validation: What chooses: strengths, thresholds, the gate.
        test: What is only reported, or None.
    """

    name: str
    labels: tuple[str, ...]
    train: Rows
    validation: Rows
    test: Rows | None

    def splits(self) -> dict[str, Rows]:
        """The splits that are there, by name."""
        named = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: rows for name, rows in named.items() if rows is not None}
