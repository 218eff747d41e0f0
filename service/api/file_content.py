# pyright: reportMissingTypeStubs=false, reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownParameterType=false
# pyright: reportUnknownVariableType=false
"""What an upload must be: rows that can be read, with lines of bounded length."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.pipelines.data.readers import READERS, TEXT_COLUMN, Broken, Record
from ratchet.pipelines.errors import Problem

MAX_LINE_BYTES = 1024 * 1024
MAX_PROBLEMS = 20
MAX_EXPANSION = 20
"""How many times its packed size a Parquet file may become, at most."""

MAX_COLUMNS = 1000
MAX_FOOTER_BYTES = 2 * 1024 * 1024
"""Of a Parquet file; in memory a footer may become some 250 times as large."""
MAX_FOOTER_ITEMS = 4000
"""Row groups or schema elements; a schema nested 15,000 deep ends the process that reads it."""

_PARQUET = (".parquet", ".pq")


def content_problems(path: Path, filename: str) -> list[Problem]:
    """What is wrong with the rows of an upload, up to a limit.

    Args:
        path: Where its bytes lie.
        filename: The client's name for it; its suffix says how it is read.
    """
    suffix = PurePath(filename).suffix.lower()
    with path.open("rb") as file:
        if suffix in _PARQUET:
            return _parquet_problems(file, path.stat().st_size)
        return _text_problems(file, suffix)


def _text_problems(file: BinaryIO, suffix: str) -> list[Problem]:
    long = _long_line(file)
    if long is not None:
        return [Problem("", f"line {long}: longer than {MAX_LINE_BYTES} bytes")]
    file.seek(0)
    problems: list[Problem] = []
    num_rows = 0
    columns = (TEXT_COLUMN,) if suffix == ".txt" else ()
    for line, row in _records(READERS[suffix](file, columns)):
        num_rows += 1
        if isinstance(row, Broken):
            problems.append(Problem("", f"line {line}: {row.message}", row.value, row.hint))
        if len(problems) >= MAX_PROBLEMS:
            break
    return problems if num_rows else [Problem("", "the file holds no rows")]


def _records(records: Iterator[Record]) -> Iterator[Record]:
    """The records; what a reader cannot go on from is the last."""
    line = 0
    try:
        for line, row in records:
            yield line, row
    except ValueError as error:  # a number of more digits than are converted
        yield line + 1, Broken(f"broken row: {error}")


def _long_line(file: BinaryIO) -> int | None:
    """The number of the first line that is too long."""
    line = 0
    while piece := file.readline(MAX_LINE_BYTES + 1):
        line += 1
        if len(piece) > MAX_LINE_BYTES:
            return line
    return None


def _parquet_problems(file: BinaryIO, num_bytes: int) -> list[Problem]:
    """Looks at the footer alone: whoever wrote it may have lied about what unpacking a row takes.

    The rows are read where a job checks its data, in a process of its own.
    """
    try:
        if _footer_bytes(file) > MAX_FOOTER_BYTES:
            hint = "Write it with larger row groups"
            return [Problem("", f"its footer is longer than {MAX_FOOTER_BYTES} bytes", hint=hint)]
        footer = _footer(file)
        if footer.num_columns > MAX_COLUMNS:
            return [Problem("", f"more than {MAX_COLUMNS} columns")]
        groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
        unpacked = sum(group.total_byte_size for group in groups)
        if unpacked > max(num_bytes, MAX_LINE_BYTES) * MAX_EXPANSION:
            return [Problem("", f"would become {unpacked} bytes when it is unpacked")]
        if footer.num_rows <= 0:
            return [Problem("", "the file holds no rows")]
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [""])[0]
        return [Problem("", f"not a readable Parquet file ({reason})")]
    return []


def _footer_bytes(file: BinaryIO) -> int:
    """What the file says of its footer's length; 0 of what is no Parquet file."""
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - 8))
    end = file.read(8)
    return int.from_bytes(end[:4], "little") if end[4:] == b"PAR1" else 0


def _footer(file: BinaryIO) -> pq.FileMetaData:
    return pq.ParquetFile(
        file,
        thrift_string_size_limit=MAX_FOOTER_BYTES,
        thrift_container_size_limit=MAX_FOOTER_ITEMS,
    ).metadata
