# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""The replay memory of one worker: which rows it keeps, and how it hands them out."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ratchet.pipelines.methods.base import MemoryRow
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.selection import class_quotas, herding, reservoir
from ratchet.pipelines.types import Batch

Group = tuple[int, int]
"""A task id and a class id."""


class Memory:
    """A bounded list of past rows.

    Args:
        capacity: Rows at most.
        selection: How a row earns its place: `reservoir`, `class_balanced` or `herding`.
    """

    def __init__(
        self, capacity: int, selection: Literal["reservoir", "class_balanced", "herding"]
    ) -> None:
        self.capacity = capacity
        self.selection = selection
        self.rows: list[MemoryRow] = []
        self.num_seen = 0
        self._tokens: dict[int, Tensor] = {}

    def __len__(self) -> int:
        return len(self.rows)

    def restore(self, rows: list[MemoryRow], num_seen: int) -> None:
        """Put back what was remembered, and how many rows had been offered."""
        self.rows = list(rows)
        self.num_seen = num_seen
        self._tokens = {}

    def resize(self, capacity: int, generator: torch.Generator) -> None:
        """Change the capacity; where rows must go, a reservoir gives up any, others their last.

        A reservoir's first slots are no fair sample: the rows that filled it stand in order.
        """
        surplus = len(self.rows) - capacity
        if surplus > 0 and self.selection == "reservoir":
            kept = torch.randperm(len(self.rows), generator=generator)[:capacity]
            self._keep(sorted(kept.tolist()))
        self.capacity = capacity

    def _keep(self, places: list[int]) -> None:
        self.rows = [self.rows[place] for place in places]
        self._tokens = {}

    def draw(self, count: int, generator: torch.Generator) -> list[int]:
        """Different rows, all equally likely."""
        return torch.randperm(len(self.rows), generator=generator)[:count].tolist()

    def batch(self, chosen: list[int], ctx: TaskContext) -> Batch:
        """Remembered rows as a batch, tokenized once."""
        fresh = [place for place in range(len(self.rows)) if place not in self._tokens]
        if fresh:
            tokens = ctx.tokenize([self.rows[place].text for place in fresh])
            self._tokens |= dict(zip(fresh, tokens, strict=True))
        rows = [self.rows[index] for index in chosen]
        return ctx.batch_of(
            [self._tokens[index] for index in chosen],
            torch.tensor([row.class_id for row in rows]),
            torch.tensor([row.task_id for row in rows]),
        )

    def offer(self, ctx: TaskContext) -> None:
        """Show the memory every row of this worker's shard of a stage, once."""
        batches = list(ctx.batches())
        index = torch.cat([batch.rows for batch in batches]).cpu() if batches else torch.zeros(0)
        if batches:
            targets = torch.cat([batch.targets for batch in batches]).cpu()
            task_ids = torch.cat([batch.task_ids for batch in batches]).cpu()
            if self.selection == "reservoir":
                self._admit(ctx, index, targets, task_ids)
            else:
                self._offer_by_class(ctx, batches, index, targets, task_ids)
        elif self.selection != "reservoir":
            self._shrink(ctx)
        self.num_seen += len(index)
        self._tokens = {}

    def _admit(
        self, ctx: TaskContext, index: Tensor, targets: Tensor, task_ids: Tensor
    ) -> dict[int, int]:
        """Let the reservoir take in rows; returns the place of each row that it took, and which."""
        slots = reservoir(self.num_seen, len(index), self.capacity, ctx.generator)
        kept = {slot: item for item, slot in enumerate(slots.tolist()) if slot >= 0}
        taken, size = sorted(kept), len(self.rows)
        num_old = sum(slot < size for slot in taken)
        places = [*taken[:num_old], *range(size, size + len(taken) - num_old)]
        items = [kept[slot] for slot in taken]
        fresh = _remembered(ctx, items, index, targets, task_ids)
        for place, row in zip(places, fresh, strict=True):
            self.rows[place : place + 1] = [row]
            self._tokens.pop(place, None)
        return dict(zip(places, items, strict=True))

    def _offer_by_class(
        self,
        ctx: TaskContext,
        batches: list[Batch],
        index: Tensor,
        targets: Tensor,
        task_ids: Tensor,
    ) -> None:
        quotas = self._shrink(ctx)
        features = _features(ctx, batches) if self.selection == "herding" else None
        groups = list(zip(task_ids.tolist(), targets.tolist(), strict=True))
        for group in sorted(set(groups)):
            members = torch.tensor([item for item, own in enumerate(groups) if own == group])
            if features is None:
                order = torch.randperm(len(members), generator=ctx.generator)
            else:
                order = herding(features[members], min(len(members), quotas[group]))
            chosen = members[order[: quotas[group]]].tolist()
            self.rows += _remembered(ctx, chosen, index, targets, task_ids)

    def _shrink(self, ctx: TaskContext) -> dict[Group, int]:
        """Cut each old group to its new quota, keeping its first (best) rows; returns the quotas.

        A group is a class of a task: where tasks share their classes, no task takes another's room.
        """
        known = [(t.id, c) for t in (*ctx.seen, *ctx.tasks) for c in t.class_ids]
        quotas = dict(
            zip(known, class_quotas(self.capacity, range(len(known))).values(), strict=True)
        )
        kept: list[MemoryRow] = []
        counts = dict.fromkeys(quotas, 0)
        for row in self.rows:
            group = (row.task_id, row.class_id)
            if counts[group] < quotas[group]:
                counts[group] += 1
                kept.append(row)
        self.rows = kept
        return quotas


def _remembered(
    ctx: TaskContext, chosen: list[int], index: Tensor, targets: Tensor, task_ids: Tensor
) -> list[MemoryRow]:
    texts = ctx.texts([int(index[item]) for item in chosen])
    return [
        MemoryRow(text, int(task_ids[item]), int(targets[item]))
        for text, item in zip(texts, chosen, strict=True)
    ]


@torch.no_grad()
def _features(ctx: TaskContext, batches: list[Batch]) -> Tensor:
    was_training = ctx.model.training
    ctx.model.eval()
    try:
        parts = []
        for batch in batches:
            with ctx.autocast():
                parts.append(ctx.model.features(batch.inputs).float().cpu())
        return torch.cat(parts)
    finally:
        ctx.model.train(was_training)
