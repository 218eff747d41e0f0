"""A result put together: what the workers measured, what the gate says, what it took."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ratchet.pipelines.data.answers import is_open
from ratchet.pipelines.data.segments import is_raw
from ratchet.pipelines.evaluation.as_served import AsServed
from ratchet.pipelines.evaluation.costs import split_costs, task_costs
from ratchet.pipelines.evaluation.history import History, main_measure, rounded
from ratchet.pipelines.evaluation.instruments import flip_rates, instrument_metrics
from ratchet.pipelines.evaluation.verdict import Verdict
from ratchet.pipelines.training.outcome import Outcome
from ratchet.pipelines.types import Task
from ratchet.pipelines.update.history import intransigence_of, read_right
from ratchet.pipelines.update.plan import Plan
from ratchet.pipelines.update.result import (
    Accuracies,
    LanguageResult,
    MainScore,
    UpdateResult,
)


@dataclass(frozen=True)
class Surroundings:
    """What stands in a result beside what was measured.

    Attributes:
        number: The version's number.
        joint: The joint run to measure intransigence against, if there is one.
        seconds: By phase, and in all.
        report: Path of the report.
        run: Key of the tracked run, where the caller registers the version.
        as_served: What requests that name no task get, if it was measured.
    """

    number: int
    joint: History | None
    seconds: Mapping[str, float]
    report: str
    run: str | None
    as_served: AsServed | None = None


def result_of(
    plan: Plan, history: History, verdict: Verdict, outcome: Outcome, around: Surroundings
) -> UpdateResult:
    """The result of an update.

    Args:
        plan: The update.
        history: Every measurement of the lineage.
        verdict: What the gate says.
        outcome: What the workers measured.
        around: The rest.
    """
    spec, job = plan.job.spec, plan.job
    measure = main_measure(spec.scenario)
    stages = [[task.name for task in stage] for stage in job.stages]
    champion = {} if job.parent is None else read_right(job.parent)

    def accuracies(measure: str) -> Accuracies:
        found = instrument_metrics(outcome.instruments, outcome.right, measure, stages, champion)
        joint = around.joint
        bound = None if joint is None else intransigence_of(history, joint, measure)
        metrics = {**history.metrics(measure), **found, "intransigence": bound}
        return Accuracies(rounded(history.matrix(measure)), metrics)

    main = accuracies(measure)
    return UpdateResult(
        lineage=spec.lineage,
        version=around.number,
        promoted=verdict.promoted,
        tasks=history.tasks,
        accuracy_matrix=main.accuracy_matrix,
        metrics={**main.metrics, **_plain_names(history, measure, around.as_served)},
        gate=verdict,
        costs=task_costs(outcome.costs, outcome.before, stages, outcome.columns),
        instruments=outcome.instruments,
        flip_rates=tuple(flip_rates(outcome.right, measure, stages, champion)),
        search=outcome.search,
        precision=outcome.precision,
        warnings=tuple(plan.warnings),
        seconds=around.seconds,
        report=around.report,
        as_served=around.as_served,
        language=language_result(plan, history),
        with_task_id=None if measure == "test_own" else accuracies("test_own"),
        run=around.run,
    )


def _plain_names(
    history: History, measure: str, as_served: AsServed | None
) -> dict[str, float | None]:
    """The average accuracies of an update by what is asked, so that none is taken for another."""
    found = {
        "average_accuracy_task_given": history.metrics("test_own").get("average_accuracy"),
        "average_accuracy_as_served": None if as_served is None else as_served.average_accuracy,
    }
    if measure == "test_all":
        found["average_accuracy_all_heads"] = history.metrics(measure).get("average_accuracy")
    return found


def seconds_of(outcome: Outcome, prepared: float, judged: float, total: float) -> dict[str, float]:
    """Seconds by phase, summed over the tasks of an update, and in all."""
    seconds = {"total": total, "prepare": prepared, "judge": judged}
    for costs in outcome.costs.values():
        for phase, spent in split_costs(costs)[0].items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
    return {phase: round(spent, 3) for phase, spent in seconds.items()}


def language_result(plan: Plan, history: History) -> LanguageResult | None:
    """What stands beside the accuracy matrix of a language model; None for a classifier."""
    if not plan.job.is_language:
        return None
    matrices = {name: rounded(found) for name, found in history.language_matrices().items()}
    return LanguageResult(
        main_scores=tuple(main_score(plan, task) for task in plan.job.tasks),
        matrices={name: matrix for name, matrix in matrices.items() if matrix is not None},
    )


def main_score(plan: Plan, task: Task) -> MainScore:
    """What the accuracy matrix holds of a task."""
    if not is_open(task.name, [plan.job.labels[index] for index in task.class_ids]):
        return "accuracy"
    return "token_accuracy" if is_raw(plan.texts[task.id].validation[0]) else "exact_match"
