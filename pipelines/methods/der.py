# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
"""Dark experience replay (DER++): remembered rows are rehearsed with the answers given to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ratchet.pipelines.methods.answer_memory import AnswerMemory, side_by_side, taken_apart
from ratchet.pipelines.methods.base import MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.rehearsal import Rehearsal, share_of
from ratchet.pipelines.spec.methods.replay import DerConfig
from ratchet.pipelines.types import Batch, Output

ANSWERS = "der_answers"
LABELS = "der_labels"


class Der(Rehearsal):
    """alpha * MSE(logits now, logits when the row was seen) + beta * CE(labels), on two draws.

    Each draw is of `rows_per_step` rows over all workers, independent of the other, from one
    reservoir that is offered every new row right after the step that learned from it, with the
    logits that the step saw; it rehearses within the first task already. The rows ride in the
    batch's forward pass with weight 0, so that the task loss does not count them. The squares are
    meant over the classes that the model had when the row was seen and that compete in its loss;
    the cross-entropy is restricted as the task loss is.

    Source: Buzzega 2020, arXiv:2004.07211. Deviations: classes that came later have no stored
    logit and are left out (there, all classes have a column from the start); each worker fills its
    share of the reservoir from its shard of the data; with gradient accumulation each part of a
    step makes its own draws.
    """

    memory: AnswerMemory

    def __init__(self, config: DerConfig) -> None:
        super().__init__(AnswerMemory(config.capacity))
        self.config = config
        self._wanted: list[Tensor] = []
        self._offers: list[tuple[Batch, Tensor]] = []

    def extend_batch(self, ctx: TaskContext, batch: Batch) -> Batch:
        """Append the rows of the two draws, with weight 0."""
        share = share_of(self.config.rows_per_step, ctx.workers.rank, ctx.workers.world_size)
        count = min(share, len(self.memory))
        for name, strength in ((ANSWERS, self.config.alpha), (LABELS, self.config.beta)):
            if strength == 0 or count == 0:
                continue
            chosen = self.memory.draw(count, ctx.generator)
            rows = self.memory.batch(chosen, ctx)
            batch = batch.extended(name, replace(rows, weights=torch.zeros_like(rows.weights)))
            if name == ANSWERS:
                self._wanted = [self.memory.answers[place] for place in chosen]
        return batch

    def loss(self, ctx: TaskContext, batch: Batch, output: Output) -> Tensor | None:
        """The terms of both draws; the answers to the new rows are noted for the reservoir."""
        if self.config.capacity > 0:
            answers = output.all_logits[batch.parts["new"]].detach()
            self._offers.append((batch.part("new"), answers))
        terms = []
        if ANSWERS in batch.parts:
            drawn = _rows_of(output, batch.parts[ANSWERS])
            terms.append(self.config.alpha * distance(drawn, self._wanted))
        if LABELS in batch.parts:
            drawn = _rows_of(output, batch.parts[LABELS])
            losses = ctx.model.row_losses(drawn, batch.part(LABELS))
            terms.append(self.config.beta * losses.mean())
        return torch.stack(terms).sum() if terms else None

    def after_step(self, ctx: TaskContext, batch: Batch, output: Output) -> None:
        """Offer the rows of the step to this worker's share of the reservoir."""
        self.take_share(ctx)
        for rows, logits in self._offers:
            self.memory.watch(ctx, rows, logits)
        self._offers = []

    def end_task(self, ctx: TaskContext) -> None:
        """Nothing: the reservoir has seen every row."""

    def state_dict(self) -> MethodState:
        """This worker's rows, their logits, and how many rows were offered."""
        return _with_answers(super().state_dict(), self.memory.answers)

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        self.memory.recall(state.rows, int(state.values["num_seen"]), _answers_of(state))
        self._wanted, self._offers = [], []

    def merge_states(self, states: Sequence[MethodState]) -> MethodState:
        """The workers' rows side by side, each with its logits."""
        answers = [answer for state in states for answer in _answers_of(state)]
        return _with_answers(super().merge_states(states), answers)

    def shard_state(self, state: MethodState, rank: int, world_size: int) -> MethodState:
        """Every world_size-th row with its logits."""
        own = super().shard_state(state, rank, world_size)
        return _with_answers(own, _answers_of(state)[rank::world_size])


def distance(output: Output, answers: Sequence[Tensor]) -> Tensor:
    """The mean over rows of the mean squared distance to the answers given before, a scalar.

    Args:
        output: Of these rows, restricted as their task loss is, [rows, classes].
        answers: The earlier logits of each row, over the first classes, as many as there were.
    """
    wanted, counts = (t.to(output.logits.device) for t in side_by_side(answers))
    now = output.all_logits[:, : wanted.shape[1]]
    known = torch.arange(wanted.shape[1], device=now.device) < counts[:, None]
    known &= output.logits[:, : wanted.shape[1]].isfinite()
    squares = torch.where(known, now - wanted, 0.0).square()
    return (squares.sum(dim=1) / known.sum(dim=1)).mean()


def _rows_of(output: Output, rows: slice) -> Output:
    unmasked = None if output.unmasked is None else output.unmasked[rows]
    return Output(output.logits[rows], output.features[rows], unmasked)


def _with_answers(state: MethodState, answers: Sequence[Tensor]) -> MethodState:
    logits, counts = side_by_side(answers)
    return replace(state, tensors={"logits": logits, "num_logits": counts})


def _answers_of(state: MethodState) -> list[Tensor]:
    return taken_apart(state.tensors["logits"], state.tensors["num_logits"])
