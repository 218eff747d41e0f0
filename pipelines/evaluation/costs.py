"""What each task of an update cost: seconds by phase, memory, and what the version grew by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.report.data import ColumnSizes

SECONDS = "_seconds"
GROWTHS = {"parameters_added": "total_parameters", "bytes_added": "stored_bytes"}
KEPT_SIZES = ("peak_memory_bytes", "state_bytes", "trainable_parameters")

TaskNames = Sequence[str]


@dataclass(frozen=True)
class TaskCosts:
    """What a task of an update cost.

    Attributes:
        seconds: By phase.
        peak_memory_bytes: Of the largest worker; of the first task with loading the model.
        state_bytes: The methods' state after it.
        trainable_parameters: Parameters that were trained for it.
        parameters_added: What the model grew by.
        bytes_added: What the version grew by: weights, adapters, states, memory and the router's
            sums, without the held-out rows.
        column: Parameters of its column, where there is one.
    """

    seconds: Mapping[str, float]
    peak_memory_bytes: int
    state_bytes: int
    trainable_parameters: int
    parameters_added: int
    bytes_added: int
    column: ColumnSizes | None = None

    def to_json(self) -> JsonObject:
        """Plain JSON values; `column` only where there is one."""
        known = asdict(self)
        if self.column is None:
            del known["column"]
        return known


def split_costs(costs: Mapping[str, float]) -> tuple[dict[str, float], dict[str, float]]:
    """Seconds by phase, and every other cost of a task."""
    seconds = {k.removesuffix(SECONDS): v for k, v in costs.items() if k.endswith(SECONDS)}
    return seconds, {k: v for k, v in costs.items() if not k.endswith(SECONDS)}


def task_costs(
    measured: Mapping[str, Mapping[str, float]],
    before: Mapping[str, float],
    stages: Sequence[TaskNames],
    columns: Mapping[str, ColumnSizes],
) -> dict[str, TaskCosts]:
    """The costs of each task that an update taught, by its name.

    Growth is the difference to the stage before; tasks that were taught together share it equally.

    Args:
        measured: What the workers counted by task: `..._seconds`, `peak_memory_bytes`,
            `trainable_parameters`, `state_bytes`, and the model's whole size after the stage.
        before: `total_parameters` and `stored_bytes` before the first stage.
        stages: Names of the tasks of each stage, in order.
        columns: Parameters of each task's column, where the stack has columns.

    Returns:
        By task.
    """
    found: dict[str, TaskCosts] = {}
    last = dict(before)
    for stage in stages:
        for name in stage:
            seconds, sizes = split_costs(measured[name])
            grown = {
                growth: round((sizes[total] - last[total]) / len(stage))
                for growth, total in GROWTHS.items()
            }
            kept = {key: round(sizes[key]) for key in KEPT_SIZES}
            rounded = {phase: round(spent, 3) for phase, spent in seconds.items()}
            found[name] = TaskCosts(rounded, **kept, **grown, column=columns.get(name))
        last = {total: measured[stage[0]][total] for total in GROWTHS.values()}
    return found
