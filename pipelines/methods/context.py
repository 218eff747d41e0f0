"""What methods see while a stage is taught."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ratchet.pipelines.types import Batch, Output, Task, Workers

if TYPE_CHECKING:
    from ratchet.pipelines.models.taught_model import TaughtModel


@dataclass
class TaskContext:
    """What a method may know while a stage of the stream is being learned.

    Attributes:
        model: The model being taught.
        tasks: The tasks of this stage: one, except when tasks are learned jointly.
        seen: Every task learned before this stage.
        workers: Sums over the worker group. Never edit gradients from rank-local numbers: the
            ranks drift apart.
        generator: The rank's own random numbers, saved with every checkpoint.
        batches: Makes one pass over this worker's shard of the stage's training rows, in a fixed
            order.
        validation: The same over the validation rows of one task seen, whole on every worker.
        step: Optimizer steps done in this stage.
        epoch: Epoch within this stage, from 0.
        texts: Training texts by row, to be remembered by replay.
        tokenize: Texts -> tokens of each, [tokens] int32, cut to the longest length of this update.
        batch_of: Tokens of rows, class ids [rows] and task ids [rows] -> a padded batch whose rows
            are in no split.
        autocast: A context manager that sets the precision of the forward pass.
        max_length: Tokens that a row is cut to in this update.
    """

    model: TaughtModel
    tasks: tuple[Task, ...]
    seen: tuple[Task, ...]
    workers: Workers
    generator: torch.Generator
    batches: Callable[[], Iterator[Batch]]
    validation: Callable[[int], Iterator[Batch]]
    texts: Callable[[list[int]], list[str]]
    tokenize: Callable[[list[str]], list[Tensor]]
    batch_of: Callable[[list[Tensor], Tensor, Tensor], Batch]
    autocast: Callable[[], Any]
    max_length: int = 128
    step: int = 0
    epoch: int = 0

    @property
    def task(self) -> Task:
        """The task being learned (the last of the stage when several are learned jointly)."""
        return self.tasks[-1]

    @property
    def is_first(self) -> bool:
        """Whether nothing was learned before this stage."""
        return not self.seen

    @property
    def known_task_ids(self) -> list[int]:
        """Every task taught so far, those of this stage included."""
        return [task.id for task in (*self.seen, *self.tasks)]

    def forward(self, batch: Batch, features: Tensor | None = None) -> Output:
        """A forward pass in the update's precision, restricted as the task loss is.

        Args:
            batch: The rows.
            features: Pooled features [rows, dim] where they are known already.
        """
        with self.autocast():
            output = (
                self.model(batch.inputs)
                if features is None
                else self.model(batch.inputs, features=features)
            )
        return self.model.restricted(output, batch, self.known_task_ids)

    def task_loss(self, batch: Batch, output: Output) -> Tensor:
        """The weighted mean loss over the rows of a batch, a scalar."""
        losses = self.model.row_losses(output, batch)
        return (losses * batch.weights).sum() / batch.weights.sum()
