# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""Which rows a bounded memory keeps: pure functions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def reservoir(num_seen: int, num_offered: int, capacity: int, generator: torch.Generator) -> Tensor:
    """Where each offered row goes, [num_offered], int64: a slot, or -1 when it is passed over.

    Vitter's Algorithm R: row n (counted from 1 over everything ever offered) takes a slot drawn
    uniformly from [0, n) and is kept where the slot is below the capacity, so each row stays with
    probability capacity / n. While there is room, rows take the free slots in order. Later rows
    overwrite earlier ones.

    Args:
        num_seen: Rows offered before.
        num_offered: Rows offered now.
        capacity: Slots.
        generator: Random numbers; their state must be saved with the memory.
    """
    numbers = torch.arange(num_seen + 1, num_seen + num_offered + 1, dtype=torch.float64)
    uniform = torch.rand(num_offered, dtype=torch.float64, generator=generator)
    slots = (uniform * numbers).floor().long()
    order = torch.arange(num_seen, num_seen + num_offered)
    slots = torch.where(order < capacity, order, slots)
    return torch.where(slots < capacity, slots, -1)


def class_quotas(capacity: int, class_ids: Sequence[int]) -> dict[int, int]:
    """An equal share of the capacity for every class; the remainder goes to the first ones."""
    if not class_ids:
        return {}
    share, rest = divmod(capacity, len(class_ids))
    return {class_id: share + (place < rest) for place, class_id in enumerate(class_ids)}


def herding(features: Tensor, count: int) -> Tensor:
    """Indices of rows, in the order that keeps their running mean nearest to the class mean.

    Source: Rebuffi 2017, arXiv:1611.07725, Algorithm 4: on L2-normalised features; the first k
    indices are the best k, so a memory shrinks by cutting the tail.

    Args:
        features: Rows of one class, [rows, dim].
        count: How many to choose, at most the rows.
    """
    rows = torch.nn.functional.normalize(features.float(), dim=-1)
    mean = rows.mean(dim=0)
    running = torch.zeros_like(mean)
    free = torch.ones(len(rows), dtype=torch.bool)
    chosen = []
    for place in range(1, min(count, len(rows)) + 1):
        distance = (mean - (running + rows) / place).norm(dim=-1)
        distance[~free] = torch.inf
        best = int(distance.argmin())
        chosen.append(best)
        free[best] = False
        running += rows[best]
    return torch.tensor(chosen, dtype=torch.int64)
