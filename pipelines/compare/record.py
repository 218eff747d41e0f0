"""What a comparison keeps of each run: metrics, costs and totals, as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ratchet.pipelines.compare.design import PlannedRun
from ratchet.pipelines.evaluation.history import main_measure

Record = dict[str, Any]


def record_of(run: PlannedRun, outcome: Mapping[str, Any] | None) -> Record:
    """A run as `comparison.json` has it; `outcome` is None while it is not done.

    Without a result the metrics, costs and totals are empty.
    """
    record: Record = {
        "key": run.key,
        "method": run.method,
        "family": run.family,
        "seed": run.seed,
        "order": run.order,
        "model": run.model,
        "kind": "" if run.spec is None else run.spec.model.kind,
        "status": "waiting" if outcome is None else outcome["status"],
        "error": None if outcome is None else outcome.get("error"),
        "metrics": {},
        "with_task_id": None,
        "costs": {},
        "totals": {},
    }
    if outcome is None or outcome["status"] != "done":
        return record
    result = outcome["result"]
    record |= {name: result[name] for name in ("tasks", "accuracy_matrix", "metrics", "costs")}
    record["with_task_id"] = result.get("with_task_id")
    record["measure"] = main_measure(run.spec.scenario) if run.spec is not None else None
    record["totals"] = totals(result)
    record["report"] = f"runs/{run.key}/{result['report']}"
    return record


def totals(result: Mapping[str, Any]) -> dict[str, Any]:
    """Costs of a whole update.

    Seconds are the sum over phases, so that a run that was interrupted counts what it computed.
    """
    phases = {phase: spent for phase, spent in result["seconds"].items() if phase != "total"}
    costs = list(result["costs"].values())
    return {
        "seconds": round(sum(phases.values()), 3),
        "seconds_by_phase": phases,
        "peak_memory_bytes": max(own["peak_memory_bytes"] for own in costs),
        "trainable_parameters": max(own["trainable_parameters"] for own in costs),
        "parameters_added": sum(own["parameters_added"] for own in costs),
        "bytes_added": sum(own["bytes_added"] for own in costs),
        "bytes_added_per_later_task": _later(costs, "bytes_added"),
    }


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
        record["metrics"]["intransigence"] = _intransigence(record, other)
        if record["with_task_id"] and other["with_task_id"]:
            record["with_task_id"]["metrics"]["intransigence"] = _intransigence(
                record["with_task_id"] | {"tasks": record["tasks"]},
                other["with_task_id"] | {"tasks": other["tasks"]},
            )


def _intransigence(record: Mapping[str, Any], joint: Mapping[str, Any]) -> float | None:
    if sorted(record["tasks"]) != sorted(joint["tasks"]):
        return None  # classes were cut into other tasks
    if len(record["accuracy_matrix"]) != len(record["tasks"]):
        return None  # learned together too
    bound = dict(zip(joint["tasks"], joint["accuracy_matrix"][-1], strict=True))
    learned = np.diagonal(np.array(record["accuracy_matrix"], dtype=np.float64))
    wanted = np.array([bound[task] for task in record["tasks"]], dtype=np.float64)
    return float(np.mean(wanted - learned))


def _later(costs: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """The mean over all tasks but the first, which carries what is there once."""
    return float(np.mean([own[name] for own in costs[1:]])) if len(costs) > 1 else None
