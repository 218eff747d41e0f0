"""What a stack makes of the heads: a block a task, a head that grows, or one for all tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from ratchet.pipelines.spec.methods.base import MethodConfig, Scenario
from ratchet.pipelines.spec.methods.isolation import HeadsConfig


def isolates_tasks(methods: Sequence[MethodConfig]) -> bool:
    """Whether each task has parameters of its own that later tasks never touch."""
    return any(method.isolates_tasks for method in methods)


def head_layout(
    methods: Sequence[MethodConfig], scenario: Scenario
) -> Literal["per_task", "growing", "shared"]:
    """The layout that `layout: auto` stands for in this stack and scenario."""
    for method in methods:
        if isinstance(method, HeadsConfig) and method.layout != "auto":
            return method.layout
    if scenario == "domain_incremental":
        return "per_task" if isolates_tasks(methods) else "shared"
    if scenario == "task_incremental" or isolates_tasks(methods):
        return "per_task"
    return "growing"
