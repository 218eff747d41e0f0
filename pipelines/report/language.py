"""What only language models are measured by, as the report shows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ratchet.pipelines.pages.words import listed
from ratchet.pipelines.report.data import Matrix, ReportData, TaskReport
from ratchet.pipelines.report.scores import Cell, HeatRow, heat_rows

MEASURES = ("perplexity", "token_accuracy", "exact_match", "rouge_l")

SCORES: Mapping[str, str] = {
    "accuracy": "whether the right answer is the likeliest",
    "exact_match": "whether what is generated is the answer, to the letter",
    "token_accuracy": "the share of tokens that the model would have named",
}
"""What the accuracy matrix holds of a task, in words."""


@dataclass(frozen=True)
class PerplexityCell(Cell):
    """A perplexity; `lowest` is the least of its column."""

    lowest: float

    @property
    def shade(self) -> float:
        """How dark the cell is, 0 to 1: darkest where the perplexity is the lowest."""
        return 0.0 if not self.value else self.lowest / self.value


@dataclass(frozen=True)
class Course:
    """A measure of a task: right after it was learned, and now."""

    learned: float | None
    now: float | None


@dataclass(frozen=True)
class LanguageRow:
    """A task with its main score and its measures, in the order of the report's columns."""

    task: TaskReport
    main_score: str
    courses: tuple[Course, ...]


def perplexity_rows(data: ReportData) -> list[HeatRow]:
    """The perplexity matrix row by row."""
    matrix, tasks = _matrix(data, "perplexity"), data["tasks"]
    columns = [[row[index] for row in matrix] for index in range(len(tasks))]
    lowest = [min((v for v in column if v is not None), default=0.0) for column in columns]
    return [
        HeatRow(
            row.stage,
            row.after,
            tuple(
                PerplexityCell(cell.value, cell.kind, least)
                for cell, least in zip(row.cells, lowest, strict=True)
            ),
        )
        for row in heat_rows(matrix, tasks)
    ]


def measures_of(data: ReportData) -> list[str]:
    """The measures that were taken of some task, in order."""
    language = data.get("language")
    return [] if language is None else [name for name in MEASURES if name in language["matrices"]]


def language_rows(data: ReportData) -> list[LanguageRow]:
    """Every task with its measures, in order."""
    language = data.get("language")
    if language is None:
        return []
    matrices = [_matrix(data, name) for name in measures_of(data)]
    return [
        LanguageRow(
            task,
            language["main_scores"][index],
            tuple(Course(m[task["stage"]][index], m[-1][index]) for m in matrices),
        )
        for index, task in enumerate(data["tasks"])
    ]


def scored(data: ReportData) -> str:
    """Which score the accuracy matrix holds of which tasks, as the end of a sentence."""
    language = data.get("language")
    if language is None:
        return ""
    groups: dict[str, list[str]] = {}
    for task, score in zip(data["tasks"], language["main_scores"], strict=True):
        groups.setdefault(score, []).append(task["name"])
    if len(groups) == 1:
        return SCORES[next(iter(groups))]
    return "; ".join(f"of {listed(names)} {SCORES[score]}" for score, names in groups.items())


def _matrix(data: ReportData, name: str) -> Matrix:
    empty: Sequence[Sequence[None]] = []
    return data.get("language", {}).get("matrices", {}).get(name, empty)
