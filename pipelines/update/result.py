"""The result of an update: what `ratchet run --json` prints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any, Literal

from ratchet.pipelines.data.answers import is_open
from ratchet.pipelines.data.segments import is_raw
from ratchet.pipelines.evaluation.costs import split_costs, task_costs
from ratchet.pipelines.evaluation.gate import Verdict
from ratchet.pipelines.evaluation.history import History, main_measure, rounded
from ratchet.pipelines.evaluation.instruments import flip_rates, instrument_metrics
from ratchet.pipelines.training.outcome import Outcome
from ratchet.pipelines.types import Task
from ratchet.pipelines.update.history import read_right
from ratchet.pipelines.update.plan import Plan


def metrics_by_measure(plan: Plan, result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of a result by the measure that they are of."""
    found = {main_measure(plan.job.spec.scenario): result["metrics"]}
    if "with_task_id" in result:
        found["test_own"] = result["with_task_id"]["metrics"]
    return found


def result_of(
    plan: Plan, history: History, verdict: Verdict, number: int, outcome: Outcome
) -> dict[str, Any]:
    """The result object of `ratchet run --json`, but for times and the report's place.

    Args:
        plan: The update.
        history: Every measurement of the lineage.
        verdict: What the gate says.
        number: The version's number.
        outcome: What the workers measured.
    """
    spec = plan.job.spec
    measure = main_measure(spec.scenario)
    stages = [[task.name for task in stage] for stage in plan.job.stages]
    champion = {} if plan.job.parent is None else read_right(plan.job.parent)
    found = partial(instrument_metrics, outcome.instruments, outcome.right)
    costs = task_costs(outcome.costs, outcome.before, stages, outcome.columns)
    metrics: dict[str, Any] = history.metrics(measure)
    metrics |= found(measure, stages, champion)
    result: dict[str, Any] = {
        "lineage": spec.lineage,
        "version": number,
        "promoted": verdict.promoted,
        "tasks": list(history.tasks),
        "accuracy_matrix": rounded(history.matrix(measure)),
        "metrics": metrics,
        "gate": verdict.as_dict(),
        "costs": {name: own.to_json() for name, own in costs.items()},
        "instruments": outcome.instruments.to_json()
        | {"negative_flip_rate_by_stage": flip_rates(outcome.right, measure, stages, champion)},
        "search": {name: asdict(record) for name, record in outcome.search.items()},
        "precision": outcome.precision,
        "warnings": list(plan.warnings),
    }
    result |= language_result(plan, history)
    if measure != "test_own":
        result["with_task_id"] = {
            "accuracy_matrix": rounded(history.matrix("test_own")),
            "metrics": history.metrics("test_own") | found("test_own", stages, champion),
        }
    return result


def seconds_of(outcome: Outcome, prepared: float, total: float) -> dict[str, float]:
    """Seconds by phase, summed over the tasks of an update, and in all."""
    seconds = {"total": total, "prepare": prepared}
    for costs in outcome.costs.values():
        for phase, spent in split_costs(costs)[0].items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
    return {phase: round(spent, 3) for phase, spent in seconds.items()}


MainScore = Literal["accuracy", "exact_match", "token_accuracy"]


def language_result(plan: Plan, history: History) -> dict[str, Any]:
    """What stands beside the accuracy matrix of a language model; empty for a classifier.

    Returns:
        `main_scores`: what the accuracy matrix holds of each task, in its order; and of each other
        measure that was taken on test data a matrix [stages, tasks], `perplexity_matrix` among
        them.
    """
    if not plan.job.is_language:
        return {}
    matrices = history.language_matrices()
    return {
        "main_scores": [main_score(plan, task) for task in plan.job.tasks],
        **{name: rounded(matrix) for name, matrix in matrices.items()},
    }


def main_score(plan: Plan, task: Task) -> MainScore:
    """What the accuracy matrix holds of a task."""
    if not is_open(task.name, [plan.job.labels[index] for index in task.class_ids]):
        return "accuracy"
    return "token_accuracy" if is_raw(plan.texts[task.id].validation[0]) else "exact_match"
