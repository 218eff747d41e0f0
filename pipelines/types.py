"""What flows through training: a task, a batch of rows, and the context that methods see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Task:
    """A named data set with a label set, at its place in a lineage.

    Attributes:
        id: Position in the lineage, from 0.
        name: Unique in the lineage.
        class_ids: Positions of the task's labels in the lineage's label list, ascending.
        stage: The stage (row of the accuracy matrix) that taught it.
    """

    id: int
    name: str
    class_ids: tuple[int, ...]
    stage: int = 0


def route_tasks(tasks: Sequence[Task]) -> Tensor:
    """The task id of each class of the router, [route classes], int64.

    The router numbers each (task, label) pair as a class of its own, task after task, also where
    tasks share their class ids.
    """
    return torch.tensor([task.id for task in tasks for _ in task.class_ids])


def route_classes(tasks: Sequence[Task], targets: Tensor, task_ids: Tensor) -> Tensor:
    """The router's class of each row, [rows], from its class id and its task.

    Args:
        tasks: Every task of the lineage up to the rows', in order of id.
        targets: Class ids, [rows].
        task_ids: The task of each row, [rows].
    """
    num_classes = 1 + max(index for task in tasks for index in task.class_ids)
    table = torch.full((len(tasks), num_classes), -1)
    offset = 0
    for place, task in enumerate(tasks):
        table[place, list(task.class_ids)] = torch.arange(offset, offset + len(task.class_ids))
        offset += len(task.class_ids)
    return table.to(targets.device)[task_ids, targets]


@dataclass(frozen=True)
class Batch:
    """Rows for one forward pass.

    Attributes:
        inputs: What the backbone takes, `input_ids` and `attention_mask`, each [rows, seq].
        targets: Class ids over the lineage's label list, [rows], int64.
        weights: Weight of each row in the task loss, [rows], float32.
        task_ids: The task of each row, [rows], int64.
        rows: Index of each row in the split it came from, [rows], int64; -1 for rows that a method
            appended.
        parts: Named runs of rows; `new` is always there.
        extras: What methods attach to rows, each [rows, ...].
    """

    inputs: dict[str, Tensor]
    targets: Tensor
    weights: Tensor
    task_ids: Tensor
    rows: Tensor
    parts: dict[str, slice]
    extras: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return int(self.targets.shape[0])

    def extended(self, name: str, other: Batch) -> Batch:
        """This batch with another's rows appended as the part `name`, padded to the longer."""
        inputs = {}
        for key, mine in self.inputs.items():
            width = max(mine.shape[1], other.inputs[key].shape[1])
            pads = [_padded(tensor, width) for tensor in (mine, other.inputs[key])]
            inputs[key] = torch.cat(pads)
        return replace(
            self,
            inputs=inputs,
            targets=torch.cat([self.targets, other.targets]),
            weights=torch.cat([self.weights, other.weights]),
            task_ids=torch.cat([self.task_ids, other.task_ids]),
            rows=torch.cat([self.rows, torch.full_like(other.rows, -1)]),
            parts={**self.parts, name: slice(len(self), len(self) + len(other))},
        )

    def part(self, name: str) -> Batch:
        """The rows of one part as a batch of their own (extras left out)."""
        rows = self.parts[name]
        return Batch(
            inputs={key: value[rows] for key, value in self.inputs.items()},
            targets=self.targets[rows],
            weights=self.weights[rows],
            task_ids=self.task_ids[rows],
            rows=self.rows[rows],
            parts={"new": slice(0, rows.stop - rows.start)},
        )


def _padded(tensor: Tensor, width: int) -> Tensor:
    """Right-pad [rows, seq] with zeros: the attention mask hides whatever token id 0 means."""
    return torch.nn.functional.pad(tensor, (0, width - tensor.shape[1]))


@dataclass(frozen=True)
class Output:
    """What one forward pass gives.

    Attributes:
        logits: Over every class the heads know, [rows, classes], float32; classes that a row may
            not be given are -inf.
        features: Pooled and handed to the heads, [rows, dim].
        unmasked: The logits before any class was closed, [rows, classes]; None where nothing was.
    """

    logits: Tensor
    features: Tensor
    unmasked: Tensor | None = None

    @property
    def all_logits(self) -> Tensor:
        """Logits over every class, none closed, [rows, classes]."""
        return self.logits if self.unmasked is None else self.unmasked

    def detached(self) -> Output:
        """The same values without the graph that made them."""
        unmasked = None if self.unmasked is None else self.unmasked.detach()
        return Output(self.logits.detach(), self.features.detach(), unmasked)


class Workers(Protocol):
    """The other workers of an update, as methods may see them."""

    rank: int
    world_size: int

    def sum(self, tensors: list[Tensor]) -> None:
        """Replace each tensor by its sum over the workers, in place."""
        ...

    def gather(self, value: Any) -> list[Any]:
        """The value of every worker, in order of rank."""
        ...
