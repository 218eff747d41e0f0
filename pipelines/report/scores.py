"""Accuracies as the report's tables show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ratchet.pipelines.report.data import Matrix, ReportData, TaskReport

MEANINGS: Mapping[str, str] = {
    "average_accuracy": "Mean accuracy over all tasks, at the end.",
    "average_incremental_accuracy": "The same, averaged over every stage on the way.",
    "learning_accuracy": "Mean accuracy on each task right after it was learned: plasticity.",
    "backward_transfer": "Mean change of a task from right after it was learned to the end.",
    "forward_transfer": "Mean gain on a task before it was learned, over the untrained start.",
    "forgetting": "Mean loss from a task's best earlier accuracy to the end.",
    "forgetting_clamped": "The same, with a task that gained counting as zero.",
    "forgetting_from_learned": "Mean loss from right after learning to the end.",
    "intransigence": "Mean shortfall of a just learned task from learning all tasks at once.",
    "probe_accuracy": "Mean accuracy of a linear head a task, trained again on the final features.",
    "negative_flip_rate": "Share of old test rows that were right before and are wrong now.",
    "forgetting_events": "How often a training example went from right to wrong, on average.",
    "retention": "Accuracy of a probe on general rows, now.",
    "retention_before": "The same with the untouched base.",
}
LANGUAGE_MEANINGS: Mapping[str, str] = {
    "retention": "Perplexity on general text, now: lower is better.",
}
"""What a language model's metrics mean where it is something else."""

Form = Literal["share", "difference", "number", "perplexity"]


@dataclass(frozen=True)
class Cell:
    """One entry of the matrix: its value, and whether its row is the one that taught its task."""

    value: float | None
    kind: Literal["before", "learned", "after"]

    @property
    def shade(self) -> float:
        """How dark the cell is, 0 to 1: the cube spreads the upper end, where accuracies differ."""
        return 0.0 if self.value is None else self.value**3

    @property
    def ink(self) -> Literal["light", "middle", "strong"]:
        """Which colour of digits can be read on the shade, in light and in dark."""
        if self.shade > 0.68:
            return "strong"
        return "middle" if self.shade > 0.45 else "light"


@dataclass(frozen=True)
class HeatRow:
    """One row of the matrix; `after` names what had just been learned."""

    stage: int
    after: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class TaskRow:
    """A task's accuracies: right after it was learned, at its best, now, and now with its id."""

    task: TaskReport
    learned: float | None
    best: float | None
    now: float | None
    now_with_task_id: float | None

    @property
    def change(self) -> float | None:
        """From right after it was learned to now."""
        return None if self.now is None or self.learned is None else self.now - self.learned


@dataclass(frozen=True)
class MetricRow:
    """A metric with its meaning, and both its values."""

    name: str
    meaning: str
    value: float | None
    with_task_id: float | None
    form: Form


def heat_rows(matrix: Matrix, tasks: Sequence[TaskReport]) -> list[HeatRow]:
    """The matrix row by row."""
    return [
        HeatRow(
            stage + 1,
            _taught(stage, tasks),
            tuple(Cell(value, _kind(stage, task)) for value, task in zip(row, tasks, strict=True)),
        )
        for stage, row in enumerate(matrix)
    ]


def task_rows(data: ReportData) -> list[TaskRow]:
    """Every task's accuracies, in order."""
    matrix, other = data["accuracy_matrix"], data["accuracy_matrix_with_task_id"]
    rows = []
    for index, task in enumerate(data["tasks"]):
        since = [row[index] for row in matrix[task["stage"] :]]
        known = [value for value in since if value is not None]
        with_id = None if other is None else other[-1][index]
        rows.append(TaskRow(task, since[0], max(known, default=None), since[-1], with_id))
    return rows


def metric_rows(data: ReportData) -> list[MetricRow]:
    """Every metric that has a value, with its meaning."""
    other = data["metrics_with_task_id"] or {}
    is_language = "language" in data
    meanings = {**MEANINGS, **(LANGUAGE_MEANINGS if is_language else {})}
    return [
        MetricRow(name, meanings.get(name, ""), value, other.get(name), _form(name, is_language))
        for name, value in data["metrics"].items()
        if value is not None or other.get(name) is not None
    ]


def _form(name: str, is_language: bool) -> Form:
    if name == "forgetting_events":
        return "number"
    if is_language and name.startswith("retention"):
        return "perplexity"
    return "share" if "accuracy" in name or "retention" in name else "difference"


def _kind(stage: int, task: TaskReport) -> Literal["before", "learned", "after"]:
    if stage == task["stage"]:
        return "learned"
    return "before" if stage < task["stage"] else "after"


def _taught(stage: int, tasks: Sequence[TaskReport]) -> str:
    names = [task["name"] for task in tasks if task["stage"] == stage]
    return names[0] if len(names) == 1 else f"{len(names)} tasks"


def scale() -> list[Cell]:
    """Cells that explain the shades."""
    return [Cell(value, "after") for value in (0.0, 0.5, 0.7, 0.8, 0.9, 1.0)]
