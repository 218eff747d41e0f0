"""Which rows stand in which batch: shuffled, bucketed by length, shared over workers, resumable.

Every choice is a function of the seed, the epoch and the rows' lengths alone, so that any worker,
at any step, after any restart, arrives at the same batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ratchet.pipelines.types import Batch

BATCHES_PER_WINDOW = 50
"""Rows are sorted by length within so many batches: enough to spare padding, and still random."""


class BatchRows(Protocol):
    """Tokenized rows that batches can be made of, in memory or not."""

    def __len__(self) -> int: ...

    @property
    def marked(self) -> bool:
        """Whether tokens tell what is learned, as those of a language model do."""
        ...

    @property
    def texts(self) -> Sequence[str]:
        """The text of each row; on disk it is looked up, cheaply for recent batches."""
        ...

    @property
    def targets(self) -> Tensor:
        """Class ids over the lineage's label list, [rows], int64."""
        ...

    @property
    def task_ids(self) -> Tensor:
        """The task of each row, [rows], int64."""
        ...

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, [rows], int64."""
        ...

    def batch(self, rows: Tensor | Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The rows at these indices, padded to the longest of them."""
        ...

    def shuffled(self, generator: np.random.Generator) -> Tensor:
        """The indices of all rows in an order fit for training, [rows], int64."""
        ...

    def by_length(self) -> Tensor:
        """The indices of all rows so that neighbours are of like length, [rows], int64."""
        ...


def num_steps(num_rows: int, batch_size: int) -> int:
    """Optimizer steps of one epoch: the last may hold fewer rows."""
    return -(-num_rows // batch_size)


def training_batches(
    rows: BatchRows,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    rank: int = 0,
    world_size: int = 1,
    start_step: int = 0,
    device: torch.device | str = "cpu",
) -> Iterator[Batch]:
    """This worker's share of each optimizer step of one epoch.

    Over all workers every row comes exactly once, and the shares of a step make up the batch that
    a lone worker would get. Every worker yields `num_steps` batches; a share is empty where a batch
    has fewer rows than there are workers.

    Args:
        rows: What to learn.
        batch_size: Rows of an optimizer step over all workers.
        seed: With `epoch`, decides the order.
        epoch: From 0.
        rank: This worker's number, from 0.
        world_size: Number of workers.
        start_step: Steps to skip, without building their batches.
        device: Where the tensors are put.
    """
    for step, chosen in enumerate(_steps(rows, batch_size, seed, epoch, start_step), start_step):
        # The turn of who starts moves on with the step, so that no worker always has the odd row.
        first = (rank - step) % world_size
        yield rows.batch(chosen[first::world_size], device)


def _steps(
    rows: BatchRows, batch_size: int, seed: int, epoch: int, start_step: int
) -> Iterator[Tensor]:
    """The rows of each global batch, from the shortest to the longest, from `start_step` on."""
    order = rows.shuffled(np.random.default_rng([seed, epoch]))
    lengths = rows.lengths
    size = batch_size * BATCHES_PER_WINDOW
    for window in range(start_step // BATCHES_PER_WINDOW, num_steps(len(rows), size)):
        members = order[window * size : (window + 1) * size]
        members = members[torch.argsort(lengths[members], stable=True)]
        batches = members.split(batch_size)
        turns = np.random.default_rng([seed, epoch, 1 + window]).permutation(len(batches))
        done = max(0, start_step - window * BATCHES_PER_WINDOW)
        for turn in turns[done:].tolist():
            yield batches[turn]


def ordered_batches(
    rows: BatchRows,
    *,
    batch_size: int,
    rank: int = 0,
    world_size: int = 1,
    device: torch.device | str = "cpu",
    even: bool = False,
) -> Iterator[Batch]:
    """This worker's share of one pass over all rows, in a fixed order with little padding.

    Over all workers every row comes exactly once. No batch is empty, so workers may differ by one
    batch, unless `even` asks for equally many.

    Args:
        rows: What to look at.
        batch_size: Rows of each batch that is yielded.
        rank: This worker's number, from 0.
        world_size: Number of workers.
        device: Where the tensors are put.
        even: Whether a worker that has fewer batches than another gets an empty one at the end.
    """
    own = rows.by_length()[rank::world_size]
    longest = -(-len(rows) // world_size) if even else len(own)
    for start in range(0, longest, batch_size):
        yield rows.batch(own[start : start + batch_size], device)
