"""From hidden states of tokens to one vector a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

MAX_SPREAD_WIDTH = 3072


def pool(hidden: Tensor, attention_mask: Tensor, pooling: Literal["mean", "cls"]) -> Tensor:
    """[rows, seq, dim] -> [rows, dim]: the mean over real tokens, or the first, in float32."""
    if pooling == "cls":
        return hidden[:, 0].float()
    weights = attention_mask.to(hidden.dtype)[..., None]
    summed = (hidden * weights).sum(dim=1).float()
    return summed / attention_mask.sum(dim=1, keepdim=True).clamp(min=1)


def spread_features(
    hidden_states: Sequence[Tensor],
    attention_mask: Tensor,
    layers: Sequence[int],
    pooling: Literal["mean", "cls"],
) -> Tensor:
    """Pooled outputs of several layers, each L2-normalised, side by side: [rows, width]."""
    return torch.cat(
        [
            functional.normalize(pool(hidden_states[layer], attention_mask, pooling), dim=-1)
            for layer in layers
        ],
        dim=-1,
    )


def spread_layers(num_layers: int, dim: int) -> tuple[int, ...]:
    """First, middle and last layer; the last alone where three would be too wide."""
    if 3 * dim > MAX_SPREAD_WIDTH or num_layers < 2:
        return (num_layers,)
    return (0, num_layers // 2, num_layers)
