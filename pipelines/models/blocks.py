"""Where the transformer blocks of a backbone lie, whatever its architecture calls them."""

from __future__ import annotations

from torch import nn


def find_blocks(backbone: nn.Module, num_layers: int) -> nn.ModuleList | None:
    """The list of transformer blocks of a backbone, first to last, or None where it has no such."""
    for module in backbone.modules():
        if isinstance(module, nn.ModuleList) and len(module) == num_layers:
            return module
    return None
