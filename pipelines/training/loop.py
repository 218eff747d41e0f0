"""The loop over one stage of the stream. It knows no method by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NoReturn

import torch
from torch import Tensor

from ratchet.pipelines.data.batching import BatchRows, num_steps, ordered_batches, training_batches
from ratchet.pipelines.errors import DivergedError
from ratchet.pipelines.methods.base import MethodStack
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.feature_table import FeatureTable, feature_table
from ratchet.pipelines.spec.update_spec import TrainingSpec
from ratchet.pipelines.training.optim import StageOptimizer
from ratchet.pipelines.training.random_state import derive_seed
from ratchet.pipelines.training.sharding import norm_over_workers, share_of_step, sum_gradients
from ratchet.pipelines.training.workers import AnyWorkers, average_gradients
from ratchet.pipelines.types import Batch, Output

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
        self._appended = False

    def start(self, position: Position) -> None:
        """Decide what trains at a position and make the optimizer for it."""
        self.ctx.epoch = position.epoch
        self.ctx.step = position.epoch * self.steps_per_epoch + position.step_in_epoch
        self._begin_epoch()
        norm = norm_over_workers(self.workers, self.model) if self.model.is_sharded else None
        self.optimizer = StageOptimizer(self.model.trainable(), self.training, self.num_steps, norm)

    def run(self, position: Position, after_step: Callable[[Position, Progress], None]) -> None:
        """Take every step from a position to the end of the stage.

        Args:
            position: The next step to take; `start` was called with it.
            after_step: Called after every optimizer step with the position that follows it.

        Raises:
            DivergedError: A gradient is not finite, and the step was not taken; or weights that
                are to be kept are not finite.
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
                if self._is_kept():
                    self._check_weights()
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
        for piece, share, scale in self._pieces(batch):
            loss, given = self._backward(piece, share * scale)
            if len(piece):
                losses.append(loss * share)
                weight += float(piece.weights.sum())  # rows of weight 0 are in no task loss
                last, output = piece, given
        if self.model.is_sharded:
            sum_gradients(self.workers, self.model)
        else:
            average_gradients(self.workers, list(self.optimizer.parameters.values()), weight)
        self.stack.watch_gradients(self.ctx, last)
        self.stack.edit_gradients(self.ctx, last)
        self._check(self.optimizer.clip())
        self.optimizer.step()
        self.stack.correct_weights(self.ctx)
        self.ctx.step += 1
        if output is not None:
            self.stack.after_step(self.ctx, last, output)
        return float(sum(losses)) if losses else 0.0

    def _pieces(self, batch: Batch) -> Iterator[tuple[Batch, float, float | Tensor]]:
        """What is sent through the model, its share of this rank's rows, and a scale of its loss.

        Where parameters are sharded, every rank sends equally many pieces, maybe of no rows, and
        says before how many rows it has: its gradients are summed as they come.
        """
        if not self.model.is_sharded:
            for micro, share in self._micro_batches(batch):
                yield self.stack.extend_batch(self.ctx, micro), share, 1.0
            return
        pieces = [(self.stack.extend_batch(self.ctx, m), s) for m, s in self._micro_batches(batch)]
        appended = any(bool((piece.rows < 0).any()) for piece, _ in pieces)
        scale, self._appended = share_of_step(
            self.workers, self.model, sum(float(p.weights.sum()) for p, _ in pieces), appended
        )
        nothing = self.rows.batch([], self.model.device)
        pieces += [(nothing, 0.0)] * (self.training.gradient_accumulation_steps - len(pieces))
        yield from ((piece, share, scale) for piece, share in pieces)

    def _backward(self, batch: Batch, share: float | Tensor) -> tuple[Tensor, Output]:
        output = self.ctx.forward(batch, self._known_features(batch))
        if len(batch) == 0:  # only to take part, with gradients of zero
            loss = output.logits.sum()
            loss.backward()
            return loss.detach(), output.detached()
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
        return None if self._table is None else self._table.features(batch, self._appended)

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
            with self.ctx.autocast():
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
            self._fail(self.ctx.step + 1, f"the gradient is not finite ({norm.item()})")

    def _is_kept(self) -> bool:
        """Whether the weights as they are now go into a checkpoint or on to the next stage."""
        every = self.training.checkpoint_every_steps or self.num_steps
        return self.ctx.step % every == 0 or self.ctx.step == self.num_steps

    def _check_weights(self) -> None:
        assert self.optimizer is not None, "start() makes the optimizer"
        norm = self.optimizer.weight_norm()
        if not torch.isfinite(norm):
            self._fail(self.ctx.step, f"the weights are not finite after it ({norm.item()})")

    def _fail(self, step: int, what: str) -> NoReturn:
        rate = self.training.rate
        raise DivergedError(
            f"task {self.ctx.task.name!r}, step {step}: {what}; "
            f"lower training.learning_rate ({rate:g}) or the strength of a penalty. "
            "Nothing was made of it: versions and earlier checkpoints are as they were"
        )


def shard_batches(
    rows: BatchRows, workers: AnyWorkers, device: torch.device, even: bool = False
) -> Iterator[Batch]:
    """One pass in a fixed order over this rank's shard of some rows.

    With `even` every rank has equally many batches, and the last one may be empty.
    """
    return ordered_batches(
        rows,
        batch_size=PASS_ROWS,
        rank=workers.rank,
        world_size=workers.world_size,
        device=device,
        even=even,
    )
