"""What a comparison keeps of each run: metrics, costs and totals, as plain values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NotRequired, TypedDict

import numpy as np

from ratchet.pipelines.compare.design import PlannedRun
from ratchet.pipelines.compare.outcome import RunDone, RunFailed, RunOutcome, status_of
from ratchet.pipelines.evaluation.costs import TaskCosts
from ratchet.pipelines.evaluation.history import main_measure
from ratchet.pipelines.evaluation.scores import Matrix
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.update.result import Accuracies, UpdateResult


class ErrorRecord(TypedDict):
    """Type and message of what ended a run."""

    type: str
    message: str


class AccuraciesRecord(TypedDict):
    """One accuracy of every task: its matrix [stages, tasks], and the metrics of it."""

    accuracy_matrix: Matrix | None
    metrics: dict[str, float | None]


class Totals(TypedDict, total=False):
    """Costs of a whole update; empty while it is not done.

    Seconds are the sum over phases, so that a run that was interrupted counts what it computed.
    """

    seconds: float
    seconds_by_phase: dict[str, float]
    peak_memory_bytes: int
    trainable_parameters: int
    parameters_added: int
    bytes_added: int
    bytes_added_per_later_task: float | None


class Record(TypedDict):
    """A run as `comparison.json` has it.

    Without a result the metrics, costs and totals are empty.
    """

    key: str
    method: str
    family: str
    seed: int
    order: int
    model: str
    kind: str
    status: str
    error: ErrorRecord | None
    metrics: dict[str, float | None]
    with_task_id: AccuraciesRecord | None
    costs: dict[str, JsonObject]
    totals: Totals
    tasks: NotRequired[list[str]]
    accuracy_matrix: NotRequired[Matrix | None]
    measure: NotRequired[str | None]
    report: NotRequired[str]


class Comparison(TypedDict):
    """What `comparison.json` holds.

    Attributes:
        spec: The spec's file.
        scenario: Its scenario.
        model: Its base model.
        design: Seeds, orders, models; see `Design`.
        interval: What an interval is, in words.
        num_runs: Runs in all.
        num_done: Runs that have ended.
        rows: Each method over its seeds, best first; see `Row`.
        runs: Every run.
    """

    spec: str
    scenario: str
    model: str
    design: JsonObject
    interval: str
    num_runs: int
    num_done: int
    rows: list[JsonObject]
    runs: list[Record]


def record_of(run: PlannedRun, outcome: RunOutcome | None) -> Record:
    """A run as `comparison.json` has it; `outcome` is None while it is not done."""
    record = Record(
        key=run.key,
        method=run.method,
        family=run.family,
        seed=run.seed,
        order=run.order,
        model=run.model,
        kind="" if run.spec is None else run.spec.model.kind,
        status="waiting" if outcome is None else status_of(outcome),
        error=None,
        metrics={},
        with_task_id=None,
        costs={},
        totals={},
    )
    if isinstance(outcome, RunFailed):
        record["error"] = ErrorRecord(type=outcome.type, message=outcome.message)
    if isinstance(outcome, RunDone):
        _fill_in(record, run, outcome.result)
    return record


def _fill_in(record: Record, run: PlannedRun, result: UpdateResult) -> None:
    record["metrics"] = dict(result.metrics)
    record["with_task_id"] = _accuracies(result.with_task_id)
    record["costs"] = {name: own.to_json() for name, own in result.costs.items()}
    record["totals"] = totals(result)
    record["tasks"] = list(result.tasks)
    record["accuracy_matrix"] = result.accuracy_matrix
    record["measure"] = None if run.spec is None else main_measure(run.spec.scenario)
    record["report"] = f"runs/{run.key}/{result.report}"


def _accuracies(found: Accuracies | None) -> AccuraciesRecord | None:
    if found is None:
        return None
    return AccuraciesRecord(accuracy_matrix=found.accuracy_matrix, metrics=dict(found.metrics))


def totals(result: UpdateResult) -> Totals:
    """Costs of a whole update."""
    phases = {phase: spent for phase, spent in result.seconds.items() if phase != "total"}
    costs = list(result.costs.values())
    return Totals(
        seconds=round(sum(phases.values()), 3),
        seconds_by_phase=phases,
        peak_memory_bytes=max(own.peak_memory_bytes for own in costs),
        trainable_parameters=max(own.trainable_parameters for own in costs),
        parameters_added=sum(own.parameters_added for own in costs),
        bytes_added=sum(own.bytes_added for own in costs),
        bytes_added_per_later_task=_later(costs),
    )


def add_intransigence(records: Sequence[Record]) -> None:
    """Fill `intransigence` in where the comparison has a joint run of the same seed and model.

    mean_j (A_joint[j] − A[j, j]): what a task falls short of learning everything at once.
    """
    joint = {
        (record["seed"], record["model"]): record
        for record in records
        if record["method"] == "joint" and record["status"] == "done"
    }
    for record in records:
        other = joint.get((record["seed"], record["model"]))
        if record["status"] != "done" or other is None or record is other:
            continue
        own, bound = _measured(record), _measured(other)
        record["metrics"]["intransigence"] = _intransigence(own, bound)
        named, named_bound = record["with_task_id"], other["with_task_id"]
        if named and named_bound:
            named["metrics"]["intransigence"] = _intransigence(
                (own[0], named["accuracy_matrix"] or []),
                (bound[0], named_bound["accuracy_matrix"] or []),
            )


_Measured = tuple[Sequence[str], Matrix]


def _measured(record: Record) -> _Measured:
    """Tasks and accuracy matrix of a run that is done."""
    return record.get("tasks", []), record.get("accuracy_matrix") or []


def _intransigence(own: _Measured, joint: _Measured) -> float | None:
    (tasks, matrix), (joint_tasks, joint_matrix) = own, joint
    if sorted(tasks) != sorted(joint_tasks):
        return None  # classes were cut into other tasks
    if len(matrix) != len(tasks):
        return None  # learned together too
    bound = dict(zip(joint_tasks, joint_matrix[-1], strict=True))
    learned = np.diagonal(np.array(matrix, dtype=np.float64))
    wanted = np.array([bound[task] for task in tasks], dtype=np.float64)
    return float(np.mean(wanted - learned))


def _later(costs: Sequence[TaskCosts]) -> float | None:
    """Bytes added by all tasks but the first, which carries what is there once; their mean."""
    return float(np.mean([own.bytes_added for own in costs[1:]])) if len(costs) > 1 else None
