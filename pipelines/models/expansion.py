"""Fixed expansion layers: a wide, sparse layer of its own under the head of each task."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ratchet.pipelines.models.heads import Heads, linear_block


class SparseExpansion(nn.Module):
    """A wide layer of which only the units with the largest pre-activations fire for a row.

    z = W norm(x) + b; the `num_active` largest z of a row give relu(z), all others 0. Units that do
    not fire get no gradient from the row: the trigger gates who learns.

    Args:
        dim: Width of the features x.
        num_units: Units of the layer.
        num_active: Units that fire for a row.
    """

    def __init__(self, dim: int, num_units: int, num_active: int) -> None:
        super().__init__()
        self.num_active = num_active
        self.linear = nn.Linear(dim, num_units)
        nn.init.normal_(self.linear.weight, std=dim**-0.5)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[rows, dim] -> [rows, num_units], at most `num_active` of a row above 0."""
        drive = self.linear(functional.layer_norm(features, features.shape[-1:]))
        largest, units = drive.topk(self.num_active, dim=-1)
        return torch.zeros_like(drive).scatter(-1, units, functional.relu(largest))


class ExpandedHeads(Heads):
    """Heads whose every block is a wide, sparse layer and a linear one, both of one task.

    They lie above the pooled features, so features of the frozen backbone are computed once, and
    one forward pass of it serves all tasks.

    Args:
        dim: Width of the pooled features.
        num_units: Units of each wide layer.
        num_active: Units that fire for a row.
    """

    def __init__(self, dim: int, num_units: int, num_active: int) -> None:
        super().__init__(dim, "per_task")
        self.num_units = num_units
        self.num_active = num_active

    def make_block(self, num_classes: int) -> nn.Module:
        """A new block: features [rows, dim] -> logits [rows, num_classes]."""
        wide = SparseExpansion(self.dim, self.num_units, self.num_active)
        return nn.Sequential(wide, linear_block(self.num_units, num_classes))
