# pyright: reportPrivateUsage=false, reportPrivateImportUsage=false
"""Importances of a stage: the mean over its training examples, over all workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor

from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.importance.engine import squared_gradients
from ratchet.pipelines.methods.importance.row_by_row import Objective, rows_of
from ratchet.pipelines.methods.importance.rules import Magnitude
from ratchet.pipelines.methods.importance.sharded import ShardedPass
from ratchet.pipelines.types import Batch


def mean_magnitudes(
    ctx: TaskContext,
    objective: Objective,
    *,
    power: Literal[1, 2] = 2,
    max_examples: int | None = None,
) -> dict[str, Tensor]:
    """The mean of |d objective / d theta_i|^power over the examples, by parameter name.

    Every worker measures its shard of the stage's training rows, and all get the same result, or
    where parameters are sharded each the result of its part. Every worker must call it.

    Args:
        ctx: The context of the stage; what trains in its model is measured.
        objective: A number for each example, [rows].
        power: 2 for squares, 1 for absolute values.
        max_examples: How many examples to look at over all workers, or None for all.
    """
    if ctx.model.is_sharded:
        return _sharded_means(ctx, objective, power, max_examples)
    parameters = ctx.model.trainable()
    found = squared_gradients(
        ctx.model,
        parameters,
        limited(ctx, max_examples),
        objective,
        autocast=ctx.autocast,
        power=power,
    )
    count = torch.tensor([float(found.num_examples)], device=ctx.model.device)
    sums = [found.sums[name] for name in parameters]
    ctx.workers.sum([*sums, count])
    torch._foreach_div_(sums, count.clamp(min=1).item())
    return dict(zip(parameters, sums, strict=True))


def _sharded_means(
    ctx: TaskContext, objective: Objective, power: Literal[1, 2], max_examples: int | None
) -> dict[str, Tensor]:
    work = ShardedPass(ctx.model, ctx.workers, objective, ctx.autocast, Magnitude(power))
    sums = work.run(limited(ctx, max_examples))
    count = torch.tensor([float(work.num_examples)], device=ctx.model.device)
    ctx.workers.sum([count])
    torch._foreach_div_(list(sums.values()), count.clamp(min=1).item())
    return sums


def limited(ctx: TaskContext, max_examples: int | None) -> Iterator[Batch]:
    """This worker's batches; with a limit, its share of it, evenly spread over all lengths."""
    if max_examples is None:
        yield from ctx.batches()
        return
    rank, world_size = ctx.workers.rank, ctx.workers.world_size
    total = sum(len(batch) for batch in ctx.batches())
    share = min(total, max_examples // world_size + (rank < max_examples % world_size))
    wanted = {place * total // share for place in range(share)}
    passed = 0
    for batch in ctx.batches():
        kept = [item for item in range(len(batch)) if passed + item in wanted]
        passed += len(batch)
        if kept or ctx.model.is_sharded:  # all workers go through equally many batches
            yield rows_of(batch, kept)
