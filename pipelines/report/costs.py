"""What each task cost, as bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ratchet.pipelines.report.data import TaskReport


@dataclass(frozen=True)
class Bar:
    """One phase of a task: its place in the legend, seconds, and share of the longest task."""

    phase: int
    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class CostRow:
    """One task that this update taught."""

    task: TaskReport
    seconds: float
    bars: tuple[Bar, ...]


def phases(tasks: Sequence[TaskReport]) -> list[str]:
    """The names of all phases, in the order in which they first occur."""
    return list(dict.fromkeys(name for task in tasks for name in task["seconds"]))


def cost_rows(tasks: Sequence[TaskReport]) -> list[CostRow]:
    """A row for each task with measured seconds."""
    order = phases(tasks)
    longest = max((sum(task["seconds"].values()) for task in tasks), default=0.0)
    return [
        CostRow(
            task,
            sum(task["seconds"].values()),
            tuple(
                Bar(order.index(name), name, seconds, seconds / longest)
                for name, seconds in task["seconds"].items()
                if longest > 0
            ),
        )
        for task in tasks
        if task["seconds"]
    ]
