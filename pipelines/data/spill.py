"""Reading the splits of an update: texts in memory while all fit the budget, else on disk."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

from ratchet.pipelines.data.blocks import BlockTexts, Layout, write_texts
from ratchet.pipelines.data.locations import locate
from ratchet.pipelines.data.recipes import LanguageData
from ratchet.pipelines.data.rows import Rows
from ratchet.pipelines.data.sources import read_rows, read_rows_into
from ratchet.pipelines.errors import Problem
from ratchet.pipelines.spec.update_spec import UpdateSpec

_LAYOUT = Layout(rows_per_block=256, blocks_per_file=32)
"""Small blocks: while data are checked and cut, texts are read from the first to the last."""

_BYTES_IN_MEMORY = 2
"""Bytes that a stored byte of text takes once it is a row, roughly."""


class Reader:
    """Reads the splits of one update, all of them in memory or all of them spilled.

    Args:
        spec: Says where the data lie and how much of them may be in memory.
        folder: Where texts over the budget go, or None for a temporary folder.
        language: Given where the rows are for a language model.
    """

    def __init__(
        self,
        spec: UpdateSpec,
        folder: Path | None = None,
        language: LanguageData | None = None,
    ) -> None:
        self.language = language
        self.columns = spec.columns
        self.folder = folder
        self.num_read = 0
        self.spills = _estimated_bytes(spec) > spec.data.memory_budget_mb * 1e6

    def read(self, uri: str, group_column: str | None) -> tuple[Rows, list[Problem]]:
        """The rows of one split; see `read_rows`."""
        self.num_read += 1
        if not self.spills:
            return read_rows(uri, self.columns, group_column, self.language)
        return read_rows_into(self._spilled, uri, self.columns, group_column, self.language)

    def _spilled(self, texts: Iterator[str]) -> BlockTexts:
        if self.folder is not None:
            folder = self.folder / f"source_{self.num_read:04d}"
            shutil.rmtree(folder, ignore_errors=True)
            return write_texts(texts, folder, _LAYOUT)
        temporary = tempfile.mkdtemp(prefix="ratchet-texts-")
        written = write_texts(texts, Path(temporary), _LAYOUT)
        weakref.finalize(written, shutil.rmtree, temporary, ignore_errors=True)
        return written


def _estimated_bytes(spec: UpdateSpec) -> int:
    sections = [*(spec.tasks or ()), *([spec.stream] if spec.stream else [])]
    uris = [uri for s in sections for uri in (s.train, s.validation, s.test) if uri is not None]
    locations = [found for found in map(locate, uris) if not isinstance(found, Problem)]
    return _BYTES_IN_MEMORY * sum(location.estimated_text_bytes() for location in locations)
