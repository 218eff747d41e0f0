"""Probes of the tasks that an update taught, on the features as they are in the end."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import Tensor

from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.data.prepared import PreparedData
from ratchet.pipelines.evaluation.evaluator import Evaluator
from ratchet.pipelines.evaluation.probe import LinearProbe, ProbeRows
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.types import Task


def probe_tasks(
    evaluator: Evaluator, data: PreparedData, stages: Iterable[Sequence[Task]]
) -> dict[str, float]:
    """Probe accuracy on the test rows of each task, by name; every rank must call it.

    Each task's own parameters are active for it. One linear head a task is trained again on its
    training rows, the features frozen.

    Args:
        evaluator: Computes features and holds the held-out rows.
        data: Where the training rows of the stages are.
        stages: The tasks that were taught together, whose data is at hand.
    """
    found: dict[str, float] = {}
    for stage in stages:
        rows = data.train[stage[0].stage]
        for tasks in feature_groups(evaluator.model, stage):
            features = evaluator.features_of(tasks[0].id, rows)
            for task in tasks:
                found[task.name] = _probe(evaluator, task, rows, features)
    return found


def feature_groups(model: TaughtModel, stage: Sequence[Task]) -> list[Sequence[Task]]:
    """Tasks of a stage that see their rows through the same features: one pass serves a group."""
    return [[task] for task in stage] if model.has_task_adapters else [stage]


def _probe(evaluator: Evaluator, task: Task, rows: BatchRows, features: Tensor) -> float:
    own = rows.task_ids == task.id
    held = evaluator.held_out[task.id]
    held_features, held_targets = evaluator.features_of(task.id, held.rows), held.rows.targets
    probe = LinearProbe(
        ProbeRows(features[own], rows.targets[own]),
        ProbeRows(held_features[held.validation], held_targets[held.validation]),
    )
    return probe.accuracy(ProbeRows(held_features[held.test], held_targets[held.test]))
