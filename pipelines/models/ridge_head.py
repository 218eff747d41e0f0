"""The head of the `analytic` method: a fixed random projection and solved weights."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from ratchet.pipelines.models.heads import ClassColumns
from ratchet.pipelines.models.ridge import project, random_projection
from ratchet.pipelines.types import Task


class RidgeHead(ClassColumns):
    """Scores of all classes from base features: relu(x P) W^T, without bias.

    The scores regress one-hot labels. They are no log-probabilities; a softmax over them ranks as
    they do.

    Args:
        width_in: Width of the base features.
        width: Width of the random projection.
        seed: Seed of the projection, which is made again from it and never saved.
    """

    layout: Literal["growing"] = "growing"
    open_future = False
    projection: Tensor
    weight: Tensor

    def __init__(self, width_in: int, width: int, seed: int) -> None:
        super().__init__()
        self.register_buffer(
            "projection", random_projection(width_in, width, seed), persistent=False
        )
        self.register_buffer("weight", torch.zeros(0, width))

    @property
    def num_classes(self) -> int:
        """Classes that have a row of weights."""
        return len(self.weight)

    def block_name(self, task_id: int) -> str:  # noqa: ARG002 - one block for all
        """The one block that answers for every task."""
        return "ridge"

    def add(self, task: Task) -> None:
        """Make room for the classes of a task: their rows are zero until the next solution."""
        self.task_classes[task.id] = task.class_ids
        missing = max(0, max(task.class_ids) + 1 - self.num_classes)
        self.weight = functional.pad(self.weight, (0, 0, 0, missing))

    def project(self, features: Tensor) -> Tensor:
        """Base features [rows, width_in] -> random features [rows, width]."""
        return project(features, self.projection)

    def forward(self, features: Tensor) -> Tensor:
        """Base features [rows, width_in] -> scores [rows, classes], column = class id, unmasked."""
        return functional.linear(self.project(features), self.weight)
