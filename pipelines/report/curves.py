"""Forgetting curves: one small chart a task, all on the same axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ratchet.pipelines.pages.paths import line
from ratchet.pipelines.pages.scale import Scale, Tick
from ratchet.pipelines.pages.words import short_hundredths
from ratchet.pipelines.report.data import Matrix, ReportData, TaskReport

WIDTH, HEIGHT = 220, 116
LEFT, RIGHT, TOP, BOTTOM = 30, 10, 10, 22


@dataclass(frozen=True)
class Point:
    """A place in a chart, in its own units."""

    x: float
    y: float


@dataclass(frozen=True)
class Line:
    """A run of neighbouring points as the `d` of an SVG path; `last` is its end."""

    path: str
    last: Point


@dataclass(frozen=True)
class Chart:
    """One task's curve.

    Attributes:
        task: Name of the task.
        learned: Accuracy right after it was learned.
        now: Accuracy at the end.
        start: Where the curve starts; None when that was not measured.
        lines: The curve; more than one where entries are missing between.
        lines_with_task_id: The curve over the task's own labels.
    """

    task: str
    learned: float | None
    now: float | None
    start: Point | None
    lines: tuple[Line, ...]
    lines_with_task_id: tuple[Line, ...]


@dataclass(frozen=True)
class Curves:
    """All charts with the axes that they share."""

    charts: tuple[Chart, ...]
    rows: tuple[Tick, ...]
    columns: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    bottom: int = HEIGHT - BOTTOM


def curves(data: ReportData) -> Curves | None:
    """Curves of the tasks that had the time to be forgotten, or None with fewer than two stages."""
    matrix, other = data["accuracy_matrix"], data["accuracy_matrix_with_task_id"]
    last = len(matrix) - 1
    shown = [(i, task) for i, task in enumerate(data["tasks"]) if task["stage"] < last]
    if not shown:
        return None
    low = _lowest([matrix] if other is None else [matrix, other], data["tasks"])
    stages = Scale(0, last, LEFT, WIDTH - RIGHT)
    axes = _Axes(stages, Scale(low, 1.0, HEIGHT - BOTTOM, TOP))
    charts = tuple(_chart(axes, index, task, matrix, other) for index, task in shown)
    rows = axes.values.ticks(short_hundredths, values=(low, (low + 1) / 2, 1.0))
    columns = stages.ticks(lambda stage: str(int(stage) + 1), values=(0, last))
    return Curves(charts, tuple(rows), tuple(columns))


@dataclass(frozen=True)
class _Axes:
    stages: Scale
    values: Scale

    def point(self, stage: int, value: float) -> Point:
        return Point(self.stages.place(stage), self.values.place(value))


def _chart(
    axes: _Axes, index: int, task: TaskReport, matrix: Matrix, other: Matrix | None
) -> Chart:
    stage = task["stage"]
    learned, now = matrix[stage][index], matrix[-1][index]
    return Chart(
        task=task["name"],
        learned=learned,
        now=now,
        start=None if learned is None else axes.point(stage, learned),
        lines=_lines(axes, stage, [row[index] for row in matrix[stage:]]),
        lines_with_task_id=(
            () if other is None else _lines(axes, stage, [row[index] for row in other[stage:]])
        ),
    )


def _lines(axes: _Axes, start: int, values: Sequence[float | None]) -> tuple[Line, ...]:
    """The values as lines, broken where one is missing rather than drawn through."""
    runs: list[list[Point]] = [[]]
    for stage, value in enumerate(values, start):
        if value is None:
            runs.append([])
        else:
            runs[-1].append(axes.point(stage, value))
    return tuple(Line(line([(point.x, point.y) for point in run]), run[-1]) for run in runs if run)


def _lowest(matrices: Sequence[Matrix], tasks: Sequence[TaskReport]) -> float:
    """Where the axis begins: the highest of a few round numbers that is below every value drawn."""
    drawn = [
        value
        for matrix in matrices
        for index, task in enumerate(tasks)
        for row in matrix[task["stage"] :]
        if (value := row[index]) is not None
    ]
    return max(floor for floor in (0.0, 0.5, 0.8) if floor <= min(drawn, default=0.0))
