"""Columns kept in Parquet files and read block by block: only a few blocks are in memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Generic, TypeVar, overload

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.pipelines.data.rows import TakenTexts

Key = TypeVar("Key")
Value = TypeVar("Value")

_OPEN_FILES = 32


@dataclass(frozen=True)
class Layout:
    """How rows lie in files: a block is a row group, a file holds a fixed number of blocks.

    Attributes:
        rows_per_block: Rows that are read at a time.
        blocks_per_file: Blocks of a file; a file is what one worker tokenizes at a time.
        blocks_per_group: Blocks among which rows are shuffled.
    """

    rows_per_block: int = 1024
    blocks_per_file: int = 32
    blocks_per_group: int = 64

    @property
    def rows_per_file(self) -> int:
        """Rows of every file but the last."""
        return self.rows_per_block * self.blocks_per_file

    @property
    def blocks_in_memory(self) -> int:
        """Blocks that a reader keeps: batches may reach over the border of two groups."""
        return 2 * self.blocks_per_group + 2

    def num_files(self, num_rows: int) -> int:
        """Files that hold so many rows."""
        return -(-num_rows // self.rows_per_file)

    def num_blocks(self, num_rows: int) -> int:
        """Blocks that hold so many rows."""
        return -(-num_rows // self.rows_per_block)


def file_path(folder: Path, number: int) -> Path:
    """The file of this number in a folder of blocks."""
    return folder / f"{number:06d}.parquet"


def write_file(table: pa.Table, folder: Path, number: int, layout: Layout) -> None:
    """Write one file of blocks; it is there whole or not at all."""
    path = file_path(folder, number)
    unfinished = path.with_suffix(".unfinished")
    # Dictionaries spare no space where hardly a text stands twice, and take memory to build.
    pq.write_table(table, unfinished, row_group_size=layout.rows_per_block, use_dictionary=False)
    os.replace(unfinished, path)


class Recent(Generic[Key, Value]):
    """The values asked for last, up to a number; older ones are made again when they are needed."""

    def __init__(self, capacity: int, make: Callable[[Key], Value]) -> None:
        self.capacity = capacity
        self.make = make
        self.values: dict[Key, Value] = {}

    def __getitem__(self, key: Key) -> Value:
        value = self.values.pop(key) if key in self.values else self.make(key)
        self.values[key] = value
        if len(self.values) > self.capacity:
            del self.values[next(iter(self.values))]
        return value


class BlockReader:
    """Reads single blocks of one column.

    Args:
        folder: Where the files lie.
        layout: How rows lie in them.
        column: The column to read.
    """

    def __init__(self, folder: Path, layout: Layout, column: str) -> None:
        self.layout = layout
        self.column = column
        self.files: Recent[int, pq.ParquetFile] = Recent(
            _OPEN_FILES, lambda number: pq.ParquetFile(file_path(folder, number), memory_map=True)
        )

    def read(self, block: int) -> Any:
        """One block as an Arrow array."""
        number, group = divmod(block, self.layout.blocks_per_file)
        table = self.files[number].read_row_group(group, columns=[self.column])
        return table.column(0).combine_chunks()


class BlockTexts(Sequence[str]):
    """Texts that lie on disk: neighbours are cheap to read one after the other, distant ones not.

    Args:
        folder: A folder that `write_texts` filled.
        num_rows: How many texts there are.
        num_bytes: Bytes of all texts.
        layout: How they lie in files.
    """

    def __init__(self, folder: Path, num_rows: int, num_bytes: int, layout: Layout) -> None:
        self.folder = folder
        self.num_rows = num_rows
        self.num_bytes = num_bytes
        self.layout = layout
        reader = BlockReader(folder, layout, "text")
        self.blocks: Recent[int, list[str]] = Recent(
            layout.blocks_in_memory, lambda block: reader.read(block).to_pylist()
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return BlockTexts, (self.folder, self.num_rows, self.num_bytes, self.layout)

    def __len__(self) -> int:
        return self.num_rows

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> TakenTexts: ...
    def __getitem__(self, index: int | slice) -> str | TakenTexts:
        if isinstance(index, slice):
            return TakenTexts(self, np.arange(self.num_rows)[index])
        row = index + self.num_rows if index < 0 else index
        if not 0 <= row < self.num_rows:
            raise IndexError(f"row {index} of {self.num_rows}")
        block, place = divmod(row, self.layout.rows_per_block)
        return self.blocks[block][place]

    def __iter__(self) -> Iterator[str]:
        for block in range(self.layout.num_blocks(self.num_rows)):
            yield from self.blocks[block]


def write_texts(texts: Iterable[str], folder: Path, layout: Layout) -> BlockTexts:
    """Put texts on disk as they come; no more than a file of them is in memory."""
    folder.mkdir(parents=True, exist_ok=True)
    remaining = iter(texts)
    num_rows = num_bytes = number = 0
    while chunk := list(islice(remaining, layout.rows_per_file)):
        column = pa.array(chunk, pa.large_string())
        write_file(pa.table({"text": column}), folder, number, layout)
        num_rows += len(chunk)
        num_bytes += column.nbytes
        number += 1
    return BlockTexts(folder, num_rows, num_bytes, layout)
