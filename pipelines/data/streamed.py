"""Tokenized rows that stay on disk, a few blocks of them in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ratchet.pipelines.data.blocks import BlockReader, BlockTexts, Layout, Recent
from ratchet.pipelines.data.tokens import collate
from ratchet.pipelines.types import Batch

MANIFEST = "rows.json"


class StreamedRows:
    """Rows of one split as tokens in Parquet, read in windows that depend on seed and epoch alone.

    Only the folder's path travels between processes; every process that makes batches must see the
    folder under that path. Each worker reads every block and takes its share of each batch.

    Args:
        folder: A folder that `prepare_rows` filled.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        self.layout = Layout(**manifest["layout"])
        self.num_rows: int = manifest["num_rows"]
        self.marked: bool = manifest["marked"]
        self.texts = BlockTexts(
            folder / "texts", self.num_rows, manifest["num_text_bytes"], self.layout
        )
        reader = BlockReader(folder / "tokens", self.layout, "tokens")
        self._blocks: Recent[int, tuple[np.ndarray, np.ndarray]] = Recent(
            self.layout.blocks_in_memory, lambda block: _flat(reader.read(block))
        )
        self._columns: Recent[str, Tensor] = Recent(3, self._mapped)

    def __reduce__(self) -> tuple[Any, ...]:
        return StreamedRows, (self.folder,)

    def __len__(self) -> int:
        return self.num_rows

    @property
    def targets(self) -> Tensor:
        """Class ids over the lineage's label list, [rows], int64, mapped from disk."""
        return self._columns["targets"]

    @property
    def task_ids(self) -> Tensor:
        """The task of each row, [rows], int64, mapped from disk."""
        return self._columns["task_ids"]

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, [rows], int64, mapped from disk."""
        return self._columns["lengths"]

    def _mapped(self, name: str) -> Tensor:
        path = column_path(self.folder, name)
        # Copy on write: torch takes no read-only arrays, and no one writes to these.
        return torch.from_numpy(np.load(path, mmap_mode="c" if self.num_rows else None))

    def batch(self, rows: Tensor | Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The rows at these indices, padded to the longest of them, or to one token if none."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        pieces = [np.zeros(0, np.int32)]
        for row in index.tolist():
            block, place = divmod(row, self.layout.rows_per_block)
            tokens, offsets = self._blocks[block]
            pieces.append(tokens[offsets[place] : offsets[place + 1]])
        lengths = torch.tensor([len(piece) for piece in pieces[1:]], dtype=torch.int64)
        return collate(
            torch.from_numpy(np.concatenate(pieces)),
            lengths.cumsum(0) - lengths,
            lengths,
            self.targets[index],
            self.task_ids[index],
            index,
            device,
            self.marked,
        )

    def shuffled(self, generator: np.random.Generator) -> Tensor:
        """The indices of all rows, [rows], int64: random blocks, their rows mixed within groups.

        A batch draws from the random blocks of one group, or of two where they meet, and not from
        the whole split: that is what lets the others stay on disk.
        """
        blocks = generator.permutation(self.layout.num_blocks(self.num_rows))
        groups = [generator.permutation(rows) for rows in self._groups(blocks)]
        return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *groups]))

    def by_length(self) -> Tensor:
        """The indices of all rows, [rows], int64, by length within groups of blocks."""
        blocks = np.arange(self.layout.num_blocks(self.num_rows))
        lengths = self.lengths.numpy()
        groups = [rows[np.argsort(lengths[rows], kind="stable")] for rows in self._groups(blocks)]
        return torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *groups]))

    def _groups(self, blocks: np.ndarray) -> list[np.ndarray]:
        """The rows of each run of `blocks_per_group` blocks."""
        size = self.layout.rows_per_block
        places = np.arange(size)
        groups = []
        for start in range(0, len(blocks), self.layout.blocks_per_group):
            chosen = blocks[start : start + self.layout.blocks_per_group]
            rows = (chosen[:, None] * size + places).reshape(-1)
            groups.append(rows[rows < self.num_rows])
        return groups


def _flat(lists: Any) -> tuple[np.ndarray, np.ndarray]:
    """The values of an Arrow list array one after the other, and where each list starts."""
    return lists.values.to_numpy(), lists.offsets.to_numpy()


def column_path(folder: Path, name: str) -> Path:
    """The file of a column of numbers, one a row."""
    return folder / f"{name}.npy"


def write_manifest(
    folder: Path,
    num_rows: int,
    num_text_bytes: int,
    layout: Layout,
    fingerprint: str,
    marked: bool = False,
) -> None:
    """Mark the folder as complete; written last."""
    manifest = {
        "num_rows": num_rows,
        "num_text_bytes": num_text_bytes,
        "layout": asdict(layout),
        "fingerprint": fingerprint,
        "marked": marked,
    }
    unfinished = folder / f"{MANIFEST}.unfinished"
    unfinished.write_text(json.dumps(manifest), encoding="utf-8")
    unfinished.replace(folder / MANIFEST)


def fingerprint_of(folder: Path) -> str | None:
    """The fingerprint of the complete rows in a folder, or None where there are none."""
    path = folder / MANIFEST
    return json.loads(path.read_text(encoding="utf-8"))["fingerprint"] if path.exists() else None


def is_streamed(folder: Path) -> bool:
    """Whether complete streamed rows lie in a folder."""
    return (folder / MANIFEST).is_file()
