"""One reader a file format: each yields the wanted columns of every row, or why it is broken."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ratchet.pipelines.files.json_value import Json

TEXT_COLUMN = "text"
"""What the one column of a text file is called, whatever `columns` says."""
TEXT_PIECE = 256 * 1024
"""Characters of a text file that are cut into blocks at a time."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Broken:
    """A row that cannot be read, and why.

    Attributes:
        message: What is wrong and what is allowed.
        value: What was found instead.
        hint: What to do, or an empty string.
        absent: Columns that were looked for and not found.
        present: Columns that are there.
        readable: What can be read of a line that is not UTF-8.
    """

    message: str
    value: Any = None
    hint: str = ""
    absent: tuple[str, ...] = ()
    present: tuple[str, ...] = ()
    readable: str = ""


Record = tuple[int, "Sequence[Any] | Broken"]
"""A line number, from 1, with the values of the wanted columns in order, or what is wrong there."""

Reader = Callable[[BinaryIO, Sequence[str]], Iterator[Record]]


def read_jsonl(file: BinaryIO, columns: Sequence[str]) -> Iterator[Record]:
    """Rows of JSON Lines: one object a line; blank lines are passed over."""
    for line, text in _decoded_lines(file):
        if isinstance(text, Broken):
            yield line, text
        elif text.strip():
            yield line, _json_row(text, columns)


def _json_row(text: str, columns: Sequence[str]) -> Sequence[Any] | Broken:
    try:
        row = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        reason = getattr(error, "msg", "nested too deep")
        return Broken(f"broken row: not valid JSON ({reason})", text.strip()[:80])
    if not isinstance(row, dict):
        return Broken("broken row: each line must hold one JSON object", text.strip()[:80])
    if _has_half_character(text, row):
        half = "broken row: half a character (an unpaired surrogate)"
        return Broken(half, text.strip()[:80], "Save the row as UTF-8")
    return _wanted(row, columns)


def _has_half_character(text: str, row: Mapping[str, Json]) -> bool:
    r"""Whether an escape such as `\ud83d` stands alone: no tokenizer and no file takes that."""
    if r"\ud" not in text.lower():
        return False
    try:
        json.dumps(row, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _wanted(row: Mapping[str, Json], columns: Sequence[str]) -> Sequence[Any] | Broken:
    try:
        return [row[column] for column in columns]
    except KeyError:
        return missing_columns(list(row), columns)


def missing_columns(present: Sequence[str], wanted: Sequence[str]) -> Broken:
    """The finding that some of the wanted columns are not among those present."""
    absent = tuple(column for column in wanted if column not in present)
    return Broken("", absent=absent, present=tuple(present))


def read_csv(file: BinaryIO, columns: Sequence[str], delimiter: str = ",") -> Iterator[Record]:
    """Rows of a CSV file whose first line names the columns; quoted values may hold line breaks."""
    undecodable: list[Record] = []
    lines = _lines_for_csv(file, undecodable)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    while True:
        start = reader.line_num + 1
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield start, Broken(f"broken row: not valid CSV ({error})")
            continue
        if undecodable:
            yield from undecodable
            undecodable.clear()
            if header is None:
                return
            continue
        if row is None:
            return
        if header is None:
            header = row
            if not set(columns) <= set(header):
                yield start, missing_columns(header, columns)
                return
        elif row:
            yield start, _csv_row(row, header, columns)


def _csv_row(row: list[str], header: list[str], columns: Sequence[str]) -> Sequence[Any] | Broken:
    if len(row) != len(header):
        return Broken(
            f"broken row: it has {len(row)} values, the header names {len(header)} columns",
            hint="Quote values that hold the separator",
        )
    return [row[header.index(column)] for column in columns]


def read_tsv(file: BinaryIO, columns: Sequence[str]) -> Iterator[Record]:
    """Rows of a file with tabs between the values, otherwise as `read_csv`."""
    return read_csv(file, columns, delimiter="\t")


PARQUET_ROWS = 1024
"""Rows of a Parquet file that are unpacked at a time: a few packed bytes may hold long texts."""


def read_parquet(file: BinaryIO, columns: Sequence[str]) -> Iterator[Record]:
    """Rows of a Parquet file, read in batches; the line is the row's position from 1."""
    line = 0
    try:
        schema = pq.ParquetFile(file).schema_arrow
        if not set(columns) <= set(schema.names):
            yield 1, missing_columns(schema.names, columns)
            return
        table = pq.ParquetFile(file, read_dictionary=_texts(schema, columns))
        for batch in table.iter_batches(
            batch_size=PARQUET_ROWS, columns=list(dict.fromkeys(columns))
        ):
            values = [_unpacked(batch.column(column)) for column in columns]
            for row in zip(*values, strict=True):
                line += 1
                yield line, row
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        yield 1, Broken(f"not a readable Parquet file ({str(error).splitlines()[0]})")
    except UnicodeDecodeError:
        yield line + 1, Broken(f"a text in this row or the {PARQUET_ROWS} after it is not UTF-8")


def _texts(schema: pa.Schema, columns: Sequence[str]) -> list[str]:
    """The columns of text: a text that a batch holds many times is to be in memory once."""
    kinds = {field.name: field.type for field in schema}
    tests = (pa.types.is_string, pa.types.is_large_string)
    return [name for name in dict.fromkeys(columns) if any(test(kinds[name]) for test in tests)]


def _unpacked(column: pa.Array) -> list[Any]:
    """The values; those that are equal are one object where the column is a dictionary's."""
    if not isinstance(column, pa.DictionaryArray):
        return column.to_pylist()
    used = column.indices.unique()
    known = dict(zip(used.to_pylist(), column.dictionary.take(used).to_pylist(), strict=True))
    return [known[index] for index in column.indices.to_pylist()]


def read_text(file: BinaryIO, columns: Sequence[str]) -> Iterator[Record]:
    """Raw text, in pieces of whole lines: a long file is never in memory as a whole."""
    if tuple(columns) != (TEXT_COLUMN,):
        yield 1, missing_columns([TEXT_COLUMN], columns)
        return
    piece: list[str] = []
    first, size = 1, 0
    for line, text in _decoded_lines(file):
        if isinstance(text, Broken):
            yield line, text
            continue
        if size + len(text) > TEXT_PIECE and piece:
            yield from _piece(first, piece)
            piece, first, size = [], line, 0
        piece.append(text)
        size += len(text)
    yield from _piece(first, piece)


def _piece(first: int, lines: list[str]) -> Iterator[Record]:
    text = "".join(lines)
    if text.strip():
        yield first, [text]


def _decoded_lines(file: BinaryIO) -> Iterator[tuple[int, str | Broken]]:
    for line, raw in enumerate(file, start=1):
        content = raw.removeprefix(_BYTE_ORDER_MARK) if line == 1 else raw
        try:
            yield line, content.decode("utf-8")
        except UnicodeDecodeError as error:
            place = f"byte 0x{content[error.start]:02x} at position {error.start + 1} of the line"
            hint = "Save the file as UTF-8"
            readable = content.decode("utf-8", errors="replace")
            yield line, Broken(f"not UTF-8: {place}", hint=hint, readable=readable)


def _lines_for_csv(file: BinaryIO, undecodable: list[Record]) -> Iterator[str]:
    """The decoded lines; one that is not UTF-8 is noted, and passed on to keep quotes paired."""
    for line, text in _decoded_lines(file):
        if isinstance(text, Broken):
            undecodable.append((line, text))
            yield text.readable
        else:
            yield text


READERS: dict[str, Reader] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".json": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".txt": read_text,
    ".parquet": read_parquet,
    ".pq": read_parquet,
}
PLAIN_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
"""Of files that take about as many bytes in memory as on disk."""
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst")


def format_suffix(path: str) -> str | None:
    """The suffix in `READERS` that says how a file is read, or None for any other file."""
    name = PurePosixPath(path.lower())
    suffix = PurePosixPath(name.stem).suffix if name.suffix in _COMPRESSED else name.suffix
    return suffix if suffix in READERS else None
