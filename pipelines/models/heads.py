"""Classification heads over pooled features: blocks of classes, side by side.

One block a task (layouts `per_task` and `growing`) or one for all tasks (`shared`). Because a
growing head is made of blocks of fixed size, adding a task changes no existing tensor: importances,
optimizer state and frozen rows of earlier tasks stay what they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ratchet.pipelines.models.part import task_part
from ratchet.pipelines.types import Task

Layout = Literal["per_task", "growing", "shared"]


class CosineBlock(nn.Module):
    """Logits scale * cos(features, weight): no class wins by the length of its weight vector.

    Source: Zheng 2023, arXiv:2312.07887; the scale is fixed, not learned, so that it cannot drift
    over tasks.
    """

    def __init__(self, dim: int, num_classes: int, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.empty(num_classes, dim))
        nn.init.normal_(self.weight, std=dim**-0.5)

    def forward(self, features: Tensor) -> Tensor:
        """[rows, dim] -> logits [rows, classes]."""
        directions = functional.normalize(features, dim=-1)
        return self.scale * functional.linear(directions, functional.normalize(self.weight, dim=-1))


def linear_block(dim: int, num_classes: int) -> nn.Linear:
    """A linear block that starts near zero, so that no class is favoured."""
    block = nn.Linear(dim, num_classes)
    nn.init.normal_(block.weight, std=0.02)
    nn.init.zeros_(block.bias)
    return block


class Head(Protocol):
    """What the loop, the methods and the evaluation ask of the heads of a classifier."""

    task_classes: dict[int, tuple[int, ...]]

    @property
    def layout(self) -> Layout:
        """Which classes compete; see `HeadsConfig`."""
        ...

    @property
    def open_future(self) -> bool:
        """Whether classes of tasks not yet taught take part in the softmax."""
        ...

    @property
    def num_classes(self) -> int:
        """Columns that there are now."""
        ...

    def add(self, task: Task) -> None:
        """Make room for the classes of a task."""
        ...

    def block_name(self, task_id: int) -> str:
        """The block of parameters that answers for a task."""
        ...

    def mask(self, class_ids: Iterable[int], device: torch.device) -> Tensor:
        """Additive mask [classes]: 0 for the given classes, -inf for the others."""
        ...

    def classes_of(self, task_ids: Sequence[int]) -> list[int]:
        """Class ids of some tasks, ascending, each once."""
        ...

    def __call__(self, features: Tensor) -> Tensor:
        """[rows, dim] -> [rows, classes]."""
        ...


class ClassColumns(nn.Module):
    """What all heads share: one column of scores a class, and which classes a task has.

    Attributes:
        task_classes: The class ids of each task, by task id.
    """

    def __init__(self) -> None:
        super().__init__()
        self.task_classes: dict[int, tuple[int, ...]] = {}

    @property
    def num_classes(self) -> int:
        """Columns that there are now."""
        raise NotImplementedError

    def mask(self, class_ids: Iterable[int], device: torch.device) -> Tensor:
        """Additive mask [classes]: 0 for the given classes, -inf for the others."""
        mask = torch.full((self.num_classes,), -torch.inf)
        mask[list(class_ids)] = 0.0
        return mask.to(device)

    def classes_of(self, task_ids: Sequence[int]) -> list[int]:
        """Class ids of some tasks, ascending, each once."""
        return sorted({index for task_id in task_ids for index in self.task_classes[task_id]})


class Heads(ClassColumns):
    """All heads of a classifier.

    Args:
        dim: Width of the pooled features.
        layout: Which classes compete in the loss of a row; see `HeadsConfig`.
        cosine_scale: Scale of cosine blocks, or None for linear ones.
        open_future: Whether classes of tasks not yet taught take part in the softmax
            (`preallocate`).
    """

    def __init__(
        self,
        dim: int,
        layout: Layout,
        cosine_scale: float | None = None,
        open_future: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.layout: Layout = layout
        self.cosine_scale = cosine_scale
        self.open_future = open_future
        self.blocks = nn.ModuleDict()
        self._columns: dict[str, tuple[int, ...]] = {}

    @property
    def num_classes(self) -> int:
        """Classes that have a row in some block."""
        return sum(len(columns) for columns in self._columns.values())

    def block_name(self, task_id: int) -> str:
        """The block that answers for a task."""
        return "shared" if self.layout == "shared" else task_part(task_id)

    def add(self, task: Task) -> None:
        """Add the block of a task; nothing happens where it exists (shared or preallocated)."""
        self.task_classes[task.id] = task.class_ids
        name = self.block_name(task.id)
        if name in self.blocks:
            return
        block = self.make_block(len(task.class_ids))
        device = next((parameter.device for parameter in self.parameters()), None)
        self.blocks[name] = block.to(device) if device is not None else block
        self._columns[name] = task.class_ids

    def make_block(self, num_classes: int) -> nn.Module:
        """A new block: features [rows, dim] -> logits [rows, num_classes]."""
        if self.cosine_scale is not None:
            return CosineBlock(self.dim, num_classes, self.cosine_scale)
        return linear_block(self.dim, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """[rows, dim] -> logits over all classes [rows, classes], column = class id, unmasked."""
        logits = [block(features) for block in self.blocks.values()]
        return logits[0] if len(logits) == 1 else torch.cat(logits, dim=-1)


def loss_mask(heads: Head, seen_task_ids: Sequence[int], task_ids: Tensor) -> Tensor | None:
    """An additive mask of the classes that compete in each row's loss, or None for all.

    Args:
        heads: The heads that gave the logits.
        seen_task_ids: Every task taught so far, with those of the present stage.
        task_ids: The task of each row, [rows].

    Returns:
        None where every class competes; [1, classes] or [rows, classes] otherwise, 0 or -inf.
    """
    if heads.layout == "shared" or heads.open_future:
        return None
    device = task_ids.device
    if heads.layout == "growing":
        classes = heads.classes_of(seen_task_ids)
        return None if len(classes) == heads.num_classes else heads.mask(classes, device)[None]
    table = torch.full((max(heads.task_classes) + 1, heads.num_classes), -torch.inf)
    for task_id, classes in heads.task_classes.items():
        table[task_id, list(classes)] = 0.0
    return table.to(device)[task_ids]
