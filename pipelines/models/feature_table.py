"""Features of what is frozen, computed once a row instead of once an epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.types import Batch, Workers

Compute = Callable[[Mapping[str, Tensor]], Tensor]


@torch.no_grad()
def feature_table(
    model: TaughtModel,
    compute: Compute,
    num_rows: int,
    shard: Iterable[Batch],
    workers: Workers,
    autocast: Callable[[], Any],
) -> Tensor:
    """Features of every row of a split, [num_rows, width], float32, equal on all ranks.

    Each rank computes its shard in eval mode (what is frozen has no dropout); one sum makes the
    table whole.

    Args:
        model: Put into eval mode during the pass.
        compute: Inputs of a batch -> features [rows, width].
        num_rows: Rows of the split.
        shard: This rank's batches over the split, every row on exactly one rank.
        workers: The worker group.
        autocast: Precision of the pass.
    """
    was_training = model.training
    model.eval()
    try:
        parts = []
        for batch in shard:
            with autocast():
                parts.append((batch.rows, compute(batch.inputs).float()))
    finally:
        model.train(was_training)
    width = max(workers.gather(parts[0][1].shape[1] if parts else 0))
    table = torch.zeros(num_rows, width, device=model.device)
    for rows, features in parts:
        table[rows] = features
    workers.sum([table])
    return table


class FeatureTable:
    """A table of known features, which computes those of appended rows on the spot.

    Args:
        table: Features by row, [num_rows, width].
        compute: Inputs of a batch -> features, in eval mode.
    """

    def __init__(self, table: Tensor, compute: Compute) -> None:
        self.table = table
        self._compute = compute

    def features(self, batch: Batch, together: bool = False) -> Tensor:
        """Features of a batch: looked up, and computed only for rows that a method appended.

        Args:
            batch: The rows.
            together: Whether all workers compute some now, so that one without must take part.
        """
        known = batch.rows >= 0
        if bool(known.all()) and not together:
            return self.table[batch.rows]
        features = self.table.new_empty(len(batch), self.table.shape[1])
        features[known] = self.table[batch.rows[known]]
        appended = {key: value[~known] for key, value in batch.inputs.items()}
        features[~known] = self._compute(appended).float()
        return features
