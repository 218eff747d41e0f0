"""What the result of an update has only for a language model."""

from __future__ import annotations

from typing import Any, Literal

from pipelines.data.answers import is_open
from pipelines.data.segments import is_raw
from pipelines.outcome import History, rounded
from pipelines.plan import Plan
from pipelines.types import Task

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
