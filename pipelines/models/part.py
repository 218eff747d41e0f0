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


class SetPart(Part):
    """A part with one or more sets of modules, of which one at a time answers and trains.

    Attributes:
        sets: The sets by name: `shared`, or `task_NNN`.
        chosen: The name of the set that answers; None before the first choice.
    """

    def __init__(self) -> None:
        super().__init__()
        self.sets = nn.ModuleDict()
        self.chosen: str | None = None

    def make_set(self) -> nn.Module:
        """A new set of modules."""
        raise NotImplementedError

    def add(self, name: str) -> None:
        """Add a set where it is missing; it is not chosen yet, and does not train."""
        if name not in self.sets:
            self.sets[name] = self.make_set().requires_grad_(False)

    def choose(self, name: str) -> None:
        """Let a set answer, and train where training is on; all others are frozen."""
        self.chosen = name
        for other, modules in self.sets.items():
            modules.requires_grad_(other == name)

    @property
    def answering(self) -> nn.Module | None:
        """The set that answers now; None while the part is silent."""
        return None if self.silent or self.chosen is None else self.sets[self.chosen]


def task_part(task_id: int) -> str:
    """The name of what belongs to one task."""
    return f"task_{task_id:03d}"
