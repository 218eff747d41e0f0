"""Symmetric matrices kept as their upper triangle: half the bytes on disk and on the wire."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ratchet.pipelines.errors import ModelError


def pack_symmetric(matrix: Tensor) -> Tensor:
    """[width, width] -> its upper triangle row by row, [width * (width + 1) / 2]."""
    return torch.cat([row[i:] for i, row in enumerate(matrix)])


def unpack_symmetric(packed: Tensor) -> Tensor:
    """The inverse of `pack_symmetric`: both triangles filled, [width, width].

    Raises:
        ModelError: The number of values is not that of a triangle.
    """
    width = (math.isqrt(8 * packed.numel() + 1) - 1) // 2
    if width * (width + 1) // 2 != packed.numel():
        raise ModelError(
            f"a symmetric matrix is saved as width * (width + 1) / 2 values, got {packed.numel()}; "
            "the saved statistics are damaged or were not written by pack_symmetric"
        )
    matrix = packed.new_empty(width, width)
    for i, row in enumerate(packed.split(list(range(width, 0, -1)))):
        matrix[i, i:] = row
        matrix[i:, i] = row
    return matrix
