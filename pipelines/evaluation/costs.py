"""What each task of an update cost: seconds by phase, memory, and what the version grew by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SECONDS = "_seconds"
GROWTHS = {"parameters_added": "total_parameters", "bytes_added": "stored_bytes"}

TaskNames = Sequence[str]


def split_costs(costs: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by phase, and every other cost of a task."""
    seconds = {k.removesuffix(SECONDS): v for k, v in costs.items() if k.endswith(SECONDS)}
    return seconds, {k: v for k, v in costs.items() if not k.endswith(SECONDS)}


def task_costs(
    measured: Mapping[str, Mapping[str, float]],
    before: Mapping[str, float],
    stages: Sequence[TaskNames],
    columns: Mapping[str, Mapping[str, Any]],
) -> dict[str, dict[str, Any]]:
    """The costs of each task that an update taught, by its name.

    Growth is the difference to the stage before; tasks that were taught together share it equally.

    Args:
        measured: What the workers counted by task: `..._seconds`, `peak_memory_bytes`,
            `trainable_parameters`, `state_bytes`, and the model's whole size after the stage.
        before: `total_parameters` and `stored_bytes` before the first stage.
        stages: Names of the tasks of each stage, in order.
        columns: Parameters of each task's column, where the stack has columns.

    Returns:
        By task: `seconds` by phase, `peak_memory_bytes` (of the largest worker; of the first task
        with loading the model), `trainable_parameters`, `state_bytes`
        (the methods' state after it), `parameters_added`, and `bytes_added` to the version:
        weights, adapters, states, memory and the router's sums, without the held-out rows; and
        `column`, where there is one.
    """
    found: dict[str, dict[str, Any]] = {}
    last = dict(before)
    for stage in stages:
        for name in stage:
            seconds, sizes = split_costs(measured[name])
            grown = {
                growth: round((sizes[total] - last[total]) / len(stage))
                for growth, total in GROWTHS.items()
            }
            kept = {key: round(size) for key, size in sizes.items() if key not in GROWTHS.values()}
            rounded = {phase: round(spent, 3) for phase, spent in seconds.items()}
            column = {"column": dict(columns[name])} if name in columns else {}
            found[name] = {"seconds": rounded, **kept, **grown, **column}
        last = {total: measured[stage[0]][total] for total in GROWTHS.values()}
    return found
