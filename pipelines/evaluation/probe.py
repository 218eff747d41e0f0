"""Linear probes: what frozen features still tell apart, whatever the trained heads make of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ratchet.pipelines.models.ridge import RidgeSums

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
TINY = 1e-6


@dataclass(frozen=True)
class ProbeRows:
    """Features of some rows with their classes.

    Attributes:
        features: [rows, width], float32.
        targets: Class ids, [rows], int64.
    """

    features: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)


class LinearProbe:
    """A ridge regression from standardized features onto one-hot classes.

    Exact and without a random choice, unlike a head that is trained by gradient steps; the strength
    of its ridge is chosen on validation rows.

    Args:
        train: Rows to learn from.
        validation: Rows that choose the ridge.
        ridges: The strengths to choose from, relative to the mean diagonal of the Gram matrix.
    """

    def __init__(
        self, train: ProbeRows, validation: ProbeRows, ridges: Iterable[float] = RIDGES
    ) -> None:
        features = train.features.double()
        self.classes = train.targets.unique()
        self.mean = features.mean(dim=0)
        self.scale = features.std(dim=0, correction=0).clamp(min=TINY)
        sums = RidgeSums.empty(features.shape[1] + 1)
        sums.grow(len(self.classes))
        targets = torch.searchsorted(self.classes, train.targets)
        sums.add(self._inputs(train.features), targets, torch.ones(len(train)))
        best, self.weights = -1.0, torch.empty(0)
        for weights in sums.solutions(ridges):
            right = self._accuracy(weights, validation)
            if right > best:
                best, self.weights = right, weights

    def accuracy(self, rows: ProbeRows) -> float:
        """The share of rows whose class scores highest; 0 for no rows."""
        return self._accuracy(self.weights, rows)

    def _accuracy(self, weights: Tensor, rows: ProbeRows) -> float:
        if len(rows) == 0:
            return 0.0
        scores = self._inputs(rows.features) @ weights.T
        return float((self.classes[scores.argmax(dim=1)] == rows.targets).double().mean())

    def _inputs(self, features: Tensor) -> Tensor:
        """Standardized features with a constant, [rows, width + 1], float64."""
        return functional.pad((features.double() - self.mean) / self.scale, (0, 1), value=1.0)
