"""Whether the memories of a stack have room for every class that they are to remember."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.spec.methods.base import MethodConfig

BY_CLASS = ("class_balanced", "herding")
"""Selections that give every class of every task a quota on every worker."""


def memory_problems(
    methods: Sequence[MethodConfig], num_classes: int, num_groups: int, num_workers: int
) -> list[Problem]:
    """Every memory that must leave out whole classes, however lucky its draws.

    Args:
        methods: The stack.
        num_classes: Classes of the lineage once everything is taught.
        num_groups: The same, a class counted once for each task that has it.
        num_workers: Workers that share out the capacity; 0 is one.
    """
    return list(_too_small(methods, num_classes, num_groups, max(1, num_workers)))


def _too_small(
    methods: Sequence[MethodConfig], num_classes: int, num_groups: int, num_workers: int
) -> Iterator[Problem]:
    for i, method in enumerate(methods):
        capacity = int(getattr(method, "capacity", 0)) if method.stores_examples else 0
        selection = getattr(method, "selection", "reservoir")
        needed, why = num_classes, f"there are {num_classes} classes to remember"
        if selection in BY_CLASS:
            needed = num_groups * num_workers
            why = f"{selection} needs a row for each of {num_groups} classes"
            why += f" on each of {num_workers} workers" if num_workers > 1 else ""
        if 0 < capacity < needed:
            yield Problem(
                f"methods[{i}].capacity",
                f"{why}, and the rest would be forgotten unseen; at least {needed} is allowed, or "
                f"0 for no {method.type}",
                capacity,
                f"Set capacity to {needed} or more; tens of rows a class are usual",
            )
