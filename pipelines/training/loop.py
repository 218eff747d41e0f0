"""The loop over one stage of the stream. It knows no method by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pipelines.config import TrainingSpec
from pipelines.data.batching import BatchRows, num_steps, ordered_batches, training_batches
from pipelines.errors import DivergedError
from pipelines.methods.base import MethodStack
from pipelines.models.feature_table import FeatureTable, feature_table
from pipelines.training.optim import StageOptimizer
from pipelines.training.random_state import derive_seed
from pipelines.training.workers import AnyWorkers, average_gradients
from pipelines.types import Batch, Output, TaskContext

PASS_ROWS = 64


@dataclass(frozen=True)
class Position:
    """Where a stage stands: the next step to take."""

    epoch: int = 0
    step_in_epoch: int = 0


@dataclass(frozen=True)
class Progress:
    """One optimizer step, as it is reported."""

    epoch: int
    step: int
    num_steps: int
    loss: float
    rows_per_second: float


class StageLoop:
    """Teaches one stage: forward, loss, backward, all-reduce, edit, clip, step.

    Args:
        ctx: The context that the methods see; its `step` and `epoch` are kept true here.
        stack: The methods.
        rows: Training rows of the stage.
        training: Epochs, batch size, rates.
        workers: The worker group.
        optimizer: The optimizer of the stage, or None where nothing learns by gradient.
    """

    def __init__(
        self,
        ctx: TaskContext,
        stack: MethodStack,
        rows: BatchRows,
        training: TrainingSpec,
        workers: AnyWorkers,
    ) -> None:
        self.ctx = ctx
        self.stack = stack
        self.rows = rows
        self.training = training
        self.workers = workers
        self.model = ctx.model
        self.steps_per_epoch = num_steps(len(rows), training.batch_size)
        self.num_steps = self.steps_per_epoch * training.num_epochs
        self.optimizer: StageOptimizer | None = None
        self._table: FeatureTable | None = None

    def start(self, position: Position) -> None:
        """Decide what trains at a position and make the optimizer for it."""
        self.ctx.epoch = position.epoch
        self.ctx.step = position.epoch * self.steps_per_epoch + position.step_in_epoch
        self._begin_epoch()
        self.optimizer = StageOptimizer(self.model.trainable(), self.training, self.num_steps)

    def run(self, position: Position, after_step: Callable[[Position, Progress], None]) -> None:
        """Take every step from a position to the end of the stage.

        Args:
            position: The next step to take; `start` was called with it.
            after_step: Called after every optimizer step with the position that follows it.

        Raises:
            DivergedError: A gradient is not finite; the step was not taken.
        """
        self.model.train()
        for epoch in range(position.epoch, self.training.num_epochs):
            self.ctx.epoch = epoch
            if epoch > position.epoch:
                self._begin_epoch()
            first = position.step_in_epoch if epoch == position.epoch else 0
            for step, batch in enumerate(self._epoch(epoch, first), start=first):
                started = time.perf_counter()
                loss = self.step(batch)
                spent = time.perf_counter() - started
                rate = len(batch) * self.workers.world_size / max(spent, 1e-9)
                progress = Progress(epoch, self.ctx.step, self.num_steps, loss, rate)
                after_step(self._next(epoch, step), progress)

    def run_pass(self) -> None:
        """One pass without gradients, for methods that learn from statistics."""
        self.model.eval()
        for batch in self.ctx.batches():
            with torch.no_grad(), self.ctx.autocast():
                output = self.model(batch.inputs)
            self.stack.after_step(self.ctx, batch, output)

    def step(self, batch: Batch) -> float:
        """One optimizer step over this rank's rows; returns the task loss of the rows it saw."""
        assert self.optimizer is not None, "start() makes the optimizer"
        losses, weight, last = [], 0.0, batch
        output: Output | None = None
        for micro, share in self._micro_batches(batch):
            last = self.stack.extend_batch(self.ctx, micro)
            loss, output = self._backward(last, share)
            losses.append(loss * share)
            weight += len(last)
        average_gradients(self.workers, list(self.optimizer.parameters.values()), weight)
        self.stack.watch_gradients(self.ctx, last)
        self.stack.edit_gradients(self.ctx, last)
        self._check(self.optimizer.clip())
        self.optimizer.step()
        self.ctx.step += 1
        if output is not None:
            self.stack.after_step(self.ctx, last, output)
        return float(sum(losses)) if losses else 0.0

    def _backward(self, batch: Batch, share: float) -> tuple[Tensor, Output]:
        output = self.ctx.forward(batch, self._known_features(batch))
        loss = self.ctx.task_loss(batch, output)
        extra = self.stack.loss(self.ctx, batch, output)
        total = loss if extra is None else loss + extra
        (total if share == 1.0 else total * share).backward()
        return loss.detach(), output.detached()

    def _begin_epoch(self) -> None:
        """Let the methods change what trains; once nothing below the heads does, make the table.

        Between steps, because all ranks make it together and a rank's share of a step may be empty.
        """
        self.stack.begin_epoch(self.ctx)
        if not self.model.features_are_fixed:
            self._table = None
        elif self._table is None:
            self._table = FeatureTable(self._all_features(), self._appended_features)

    def _known_features(self, batch: Batch) -> Tensor | None:
        return None if self._table is None else self._table.features(batch)

    def _all_features(self) -> Tensor:
        return feature_table(
            self.model,
            self.model.features,
            len(self.rows),
            self.ctx.batches(),
            self.workers,
            self.ctx.autocast,
        )

    @torch.no_grad()
    def _appended_features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        self.model.eval()
        try:
            return self.model.features(inputs)
        finally:
            self.model.train()

    def _micro_batches(self, batch: Batch) -> Iterator[tuple[Batch, float]]:
        parts = min(self.training.gradient_accumulation_steps, len(batch))
        if parts == 1:
            yield batch, 1.0
        elif parts > 1:
            for rows in torch.arange(len(batch)).chunk(parts):
                piece = replace(batch, parts={"new": slice(int(rows[0]), int(rows[-1]) + 1)})
                yield piece.part("new"), len(rows) / len(batch)

    def _epoch(self, epoch: int, first: int) -> Iterator[Batch]:
        stage = self.ctx.task.stage
        return training_batches(
            self.rows,
            batch_size=self.training.batch_size,
            seed=derive_seed(self.training.seed, "order", stage),
            epoch=epoch,
            rank=self.workers.rank,
            world_size=self.workers.world_size,
            start_step=first,
            device=self.model.device,
        )

    def _next(self, epoch: int, step: int) -> Position:
        last = step + 1 == self.steps_per_epoch
        return Position(epoch + 1, 0) if last else Position(epoch, step + 1)

    def _check(self, norm: Tensor) -> None:
        if not torch.isfinite(norm):
            raise DivergedError(
                f"task {self.ctx.task.name!r}, step {self.ctx.step + 1}: "
                "the gradient is not finite "
                f"({norm.item()}); lower training.learning_rate or the strength of a penalty"
            )


def shard_batches(
    rows: BatchRows, workers: AnyWorkers, device: torch.device, whole: bool = False
) -> Iterator[Batch]:
    """One pass in a fixed order over this rank's shard of some rows, or over all of them."""
    rank, world_size = (0, 1) if whole else (workers.rank, workers.world_size)
    return ordered_batches(
        rows, batch_size=PASS_ROWS, rank=rank, world_size=world_size, device=device
    )
