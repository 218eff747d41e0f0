"""How much memory and storage a model and its methods take."""

from __future__ import annotations

import os
import resource
from collections.abc import Sequence
from pathlib import Path

import torch

from ratchet.pipelines.methods.base import MethodStack
from ratchet.pipelines.models.router_statistics import RouterStatistics
from ratchet.pipelines.models.shards import sharded_parameters
from ratchet.pipelines.models.task_columns import BASE, TaskColumns
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.report.data import ColumnSizes
from ratchet.pipelines.training.workers import AnyWorkers
from ratchet.pipelines.types import Task

CLEAR_REFS = Path("/proc/self/clear_refs")
RESET_PEAK = "5"
"""Tells the kernel to set a process's peak of resident memory to what it holds now (proc(5))."""


def held_sizes(
    model: TaughtModel, stack: MethodStack, router: RouterStatistics
) -> dict[str, float]:
    """Size of the model, and of what a version of it would keep."""
    tensors = [*model.learned_state().values(), *router.tensors()]
    stored = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
    return {
        "total_parameters": float(sum(p.numel() for p in model.parameters())),
        "stored_bytes": float(stored + _state_bytes(model, stack)),
    }


def sizes_of(
    model: TaughtModel, stack: MethodStack, router: RouterStatistics, workers: AnyWorkers
) -> dict[str, float]:
    """As `held_sizes`, with what trains, the methods' state and the peak of the largest worker.

    Every worker must call it. The peak is taken: see `take_peak_memory`.
    """
    return {
        "peak_memory_bytes": float(max(workers.gather(take_peak_memory(model.device)))),
        "state_bytes": float(_state_bytes(model, stack)),
        "trainable_parameters": float(
            sum(p.numel() for p in model.parameters() if p.requires_grad)
        ),
        **held_sizes(model, stack, router),
    }


def column_sizes(model: TaughtModel, tasks: Sequence[Task]) -> dict[str, ColumnSizes]:
    """Parameters of each task's column, where the stack has columns, by the task's name."""
    names = {task.id: task.name for task in tasks}
    found: dict[str, ColumnSizes] = {}
    for part in model.parts.values():
        if not isinstance(part, TaskColumns):
            continue
        for task_id, counts in part.parameter_counts().items():
            earlier = {
                names[int(source.rpartition("_")[2])]: count
                for source, count in counts.laterals.items()
                if source != BASE
            }
            found[names[task_id]] = ColumnSizes(
                total=counts.total,
                own=counts.own,
                from_base=counts.laterals.get(BASE, 0),
                from_tasks=earlier,
            )
    return found


def take_peak_memory(device: torch.device) -> int:
    """Peak bytes since this was last called, or since the process began; the next call starts anew.

    Of the device where there is one, else of the process. Where Linux's `clear_refs` is missing or
    may not be written it cannot start anew, and is the peak since the process began.
    """
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        return peak
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if os.access(CLEAR_REFS, os.W_OK):
        CLEAR_REFS.write_text(RESET_PEAK, encoding="ascii")
    return peak


def _state_bytes(model: TaughtModel, stack: MethodStack) -> int:
    """Bytes of the methods' state; of what is sharded, those of all workers."""
    parameters = dict(sharded_parameters(model))
    total = 0
    for kind, state in stack.state_dicts().items():
        total += state.num_bytes
        for name, tensor in state.tensors.items():
            parameter = parameters.get(stack.methods[kind].parameter_of(name) or "")
            if parameter is not None:
                total += (parameter.numel() - tensor.numel()) * tensor.element_size()
    return total
