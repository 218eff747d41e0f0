"""Everything a worker group learns from, tokenized once by the driver and read by every worker."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.data.streamed import StreamedRows, is_streamed
from ratchet.pipelines.data.tokens import TokenizedRows

DATA_FOLDER = "data"


@dataclass(frozen=True)
class HeldOut:
    """Validation and test rows of one task, kept side by side: one pass measures both.

    Attributes:
        rows: Validation rows first, then test rows.
        num_validation: How many of them are validation rows.
    """

    rows: TokenizedRows
    num_validation: int

    @property
    def validation(self) -> slice:
        """The validation rows."""
        return slice(0, self.num_validation)

    @property
    def test(self) -> slice:
        """The test rows; the validation rows again where there are none."""
        if self.num_validation == len(self.rows):
            return self.validation
        return slice(self.num_validation, len(self.rows))


@dataclass(frozen=True)
class PreparedData:
    """Training rows by stage and held-out rows by task id."""

    train: dict[int, BatchRows]
    held_out: dict[int, HeldOut]


def save_rows(rows: TokenizedRows, path: Path) -> None:
    """Write tokenized rows as `path`.safetensors and their texts as `path`.json."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {
        "tokens": rows.tokens.contiguous(),
        "offsets": rows.offsets.contiguous(),
        "targets": rows.targets.contiguous(),
        "task_ids": rows.task_ids.contiguous(),
        "marked": torch.tensor(rows.marked),
    }
    save_file(tensors, path.with_suffix(".safetensors"))
    path.with_suffix(".json").write_text(json.dumps(list(rows.texts)), encoding="utf-8")


def load_rows(path: Path) -> TokenizedRows:
    """The rows that `save_rows` wrote."""
    tensors = load_file(path.with_suffix(".safetensors"))
    texts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    marked = bool(tensors.pop("marked"))
    return TokenizedRows(**tensors, texts=texts, marked=marked)


def open_rows(path: Path) -> BatchRows:
    """Rows of either kind: those that `prepare_rows` left in the folder `path`, or saved rows."""
    return StreamedRows(path) if is_streamed(path) else load_rows(path)


def train_path(folder: Path, stage: int) -> Path:
    """Where the training rows of a stage lie in a run's folder."""
    return folder / DATA_FOLDER / f"train_{stage:03d}"


def save_data(data: PreparedData, folder: Path) -> None:
    """Write prepared data where every worker can read it; rows that stream lie on disk already."""
    for stage, rows in data.train.items():
        if isinstance(rows, TokenizedRows):  # others were written there when they were prepared
            save_rows(rows, folder / f"train_{stage:03d}")
    sizes = {}
    for task_id, held in data.held_out.items():
        save_rows(held.rows, folder / f"held_out_{task_id:03d}")
        sizes[task_id] = held.num_validation
    index = {"train": sorted(data.train), "held_out": sizes}
    (folder / "index.json").write_text(json.dumps(index), encoding="utf-8")


def load_data(folder: Path) -> PreparedData:
    """The data that `save_data` wrote."""
    index = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return PreparedData(
        train={stage: open_rows(folder / f"train_{stage:03d}") for stage in index["train"]},
        held_out={
            int(task_id): HeldOut(load_rows(folder / f"held_out_{int(task_id):03d}"), size)
            for task_id, size in index["held_out"].items()
        },
    )
