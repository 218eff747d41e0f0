"""From an update's outcome to what its report shows."""

from __future__ import annotations

from datetime import UTC, datetime

from ratchet.pipelines.evaluation.as_served import AsServed
from ratchet.pipelines.evaluation.verdict import MeasureComparison, TaskComparison, Verdict
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.registry.manifest import Manifest
from ratchet.pipelines.report.data import (
    AsServedReport,
    ChangeReport,
    ComparisonReport,
    LanguageReport,
    OutOfScope,
    ReportData,
    RoutedTask,
    TaskReport,
    VerdictReport,
)
from ratchet.pipelines.report.language import MEASURES
from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.training.outcome import Outcome
from ratchet.pipelines.types import Task
from ratchet.pipelines.update.plan import Plan, num_train
from ratchet.pipelines.update.result import UpdateResult


def report_data(
    plan: Plan,
    outcome: Outcome,
    result: UpdateResult,
    manifest: Manifest,
    spec_yaml: str,
) -> ReportData:
    """Everything that the report of an update shows.

    Args:
        plan: The update as it was planned.
        outcome: What the workers wrote: scores, costs, calibration.
        result: The result object of the update.
        manifest: The version's manifest, for its number, parent and time.
        spec_yaml: The settings.
    """
    with_task_id = result.with_task_id
    language, events = _language(result), outcome.instruments.forgetting_events
    data = ReportData(
        lineage=manifest.lineage,
        version=manifest.version,
        parent=manifest.parent,
        created=datetime.fromtimestamp(manifest.created, UTC).isoformat(timespec="seconds"),
        base_model=manifest.base_model["name"],
        scenario=manifest.scenario,
        promoted=result.promoted,
        verdict=verdict_report(result.gate),
        tasks=[_task(plan, result, task) for task in plan.job.tasks],
        accuracy_matrix=result.accuracy_matrix or [],
        accuracy_matrix_with_task_id=with_task_id and with_task_id.accuracy_matrix,
        metrics=result.metrics,
        metrics_with_task_id=with_task_id and with_task_id.metrics,
        warnings=list(plan.warnings),
        spec_yaml=spec_yaml,
        methods=[_method(method) for method in manifest.methods],
        seconds={k: v for k, v in result.seconds.items() if k != "total"},
        columns=outcome.columns,
        search=outcome.search,
        forgotten=[] if events is None else events.most_forgotten,
        out_of_scope=OutOfScope(
            threshold=outcome.calibration.threshold,
            accept_fraction=plan.job.spec.routing.accept_fraction,
            routed={
                name: RoutedTask(
                    num_rows=own.num_rows,
                    num_accepted=own.num_accepted,
                    num_own_task=own.num_own_task,
                )
                for name, own in outcome.calibration.routed.items()
            },
        ),
    )
    if result.as_served is not None:
        data["as_served"] = _as_served(result.as_served)
    if language is not None:
        data["language"] = language
    return data


def _as_served(found: AsServed) -> AsServedReport:
    return AsServedReport(
        average_accuracy=found.average_accuracy,
        tasks=found.tasks,
        answer_by=found.answering.by,
        accuracy=found.answering.accuracy,
        num_rows=found.answering.num_rows,
    )


def verdict_report(verdict: Verdict) -> VerdictReport:
    """What a report shows of a verdict."""
    return VerdictReport(
        promoted=verdict.promoted,
        headline=verdict.headline,
        confidence=verdict.confidence,
        out_of_scope=None if verdict.out_of_scope is None else verdict.out_of_scope.told,
        reasons=verdict.reasons,
        comparisons=[_comparison(own) for own in verdict.comparisons],
    )


def _comparison(own: TaskComparison) -> ComparisonReport:
    now = own.now
    served = None if now is None else now.served
    beside = [found.told for found in (own.champion_own, own.champion_served) if found is not None]
    return ComparisonReport(
        task=own.task,
        against=own.against,
        own_now=None if now is None else now.own / now.num_rows,
        served_now=None if now is None or served is None else served / now.num_rows,
        own=_change(own.own),
        served=_change(own.served),
        beside=beside if own.against == "anchor" else [],
        passed=own.passed,
    )


def _change(found: MeasureComparison | None) -> ChangeReport | None:
    if found is None:
        return None
    return ChangeReport(
        version=found.version,
        before=found.before / found.num_rows,
        after=found.after / found.num_rows,
        low=found.interval[0],
        high=found.interval[1],
        outcome=found.outcome,
        told=found.told,
    )


def _language(result: UpdateResult) -> LanguageReport | None:
    """What only a language model's report shows."""
    if result.language is None:
        return None
    found = {name: result.language.matrices.get(f"{name}_matrix") for name in MEASURES}
    return LanguageReport(
        main_scores=result.language.main_scores,
        matrices={name: matrix for name, matrix in found.items() if matrix is not None},
    )


def _task(plan: Plan, result: UpdateResult, task: Task) -> TaskReport:
    is_new = task in plan.job.new
    costs = result.costs.get(task.name)
    held = plan.texts[task.id]
    return TaskReport(
        name=task.name,
        stage=task.stage,
        is_new=is_new,
        num_labels=len(task.class_ids),
        num_train=num_train(plan, task.id) if is_new else None,
        num_validation=len(held.validation),
        num_test=len(held.test),
        seconds={} if costs is None else costs.seconds,
        peak_memory_bytes=costs and costs.peak_memory_bytes,
        bytes_added=costs and costs.bytes_added,
        trainable_parameters=costs and costs.trainable_parameters,
    )


def _method(config: JsonObject) -> str:
    """A method in words: its settings that differ from the defaults, and what it does."""
    kind = METHOD_CONFIGS[str(config["type"])]
    defaults = {name: field.default for name, field in kind.model_fields.items()}
    changed = {k: v for k, v in config.items() if k != "type" and v != defaults.get(k)}
    settings = ", ".join(f"{name} {value}" for name, value in changed.items())
    return f"{config['type']}{f' ({settings})' if settings else ''}: {kind.summary}"
