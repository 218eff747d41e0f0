"""Modules that a method ties into the backbone, and can be told to be silent."""

from __future__ import annotations

from collections.abc import Collection

from torch import nn


class Part(nn.Module):
    """What a method adds beside the backbone; its hooks do nothing while it is silent.

    Hooks are registered as bound methods of a part, so that a deep copy of the model ties the
    copies. What belongs to one task alone lies under a child named `task_NNN`.

    Attributes:
        silent: Whether the backbone answers as if the part were not there.
        task_id: The task whose parameters answer; set by `activate`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.silent = False
        self.task_id: int | None = None

    def fit(self, names: Collection[str]) -> None:
        """Take away what saved weights do not have, where a structure shrinks after a task.

        Args:
            names: The tensors of this part that were saved, by name within it.
        """


def task_part(task_id: int) -> str:
    """The name of what belongs to one task."""
    return f"task_{task_id:03d}"
