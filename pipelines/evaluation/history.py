"""What an update amounts to: matrices and metrics, as plain values. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ratchet.pipelines.evaluation.metrics import summarize
from ratchet.pipelines.evaluation.scores import Matrix, Scores
from ratchet.pipelines.files.formats import checked
from ratchet.pipelines.files.json_value import JsonObject

MEASURES = ("validation_own", "validation_all", "test_own", "test_all")
LANGUAGE_MEASURES = ("perplexity", "token_accuracy", "exact_match", "rouge_l")


@dataclass(frozen=True)
class History:
    """Every measurement of a lineage: a row a stage, each the scores of each task measured then.

    Attributes:
        tasks: Names of the tasks in the order learned.
        stages: The row that taught each task.
        rows: Scores by task name, one mapping a row.
        baseline: Scores of the untrained start by task name, where they were measured.
    """

    tasks: tuple[str, ...]
    stages: tuple[int, ...]
    rows: tuple[Scores, ...]
    baseline: Scores

    def matrix(self, measure: str) -> Matrix | None:
        """One measure as a matrix [stages, tasks]; None entries were not measured.

        Returns None where the measure was never taken (no accuracy without the task id, say).
        """
        matrix = [[row.get(task, {}).get(measure) for task in self.tasks] for row in self.rows]
        return matrix if any(value is not None for row in matrix for value in row) else None

    def metrics(self, measure: str) -> dict[str, float | None]:
        """Every metric of one measure."""
        matrix = self.matrix(measure)
        if matrix is None:
            return {}
        baseline = [self.baseline.get(task, {}).get(measure) for task in self.tasks]
        known = baseline if all(value is not None for value in baseline) else None
        return summarize(matrix, known, self.stages)

    def language_matrices(self) -> dict[str, Matrix]:
        """What only language models are measured by, on test data, each as a matrix; see above."""
        found = {f"{name}_matrix": self.matrix(f"test_{name}") for name in LANGUAGE_MEASURES}
        return {name: matrix for name, matrix in found.items() if matrix is not None}

    def as_dict(self) -> JsonObject:
        """Plain JSON values, as a version keeps them."""
        return {
            "tasks": list(self.tasks),
            "stages": list(self.stages),
            "rows": [dict(row) for row in self.rows],
            "baseline": dict(self.baseline),
            **{measure: self.matrix(measure) for measure in MEASURES},
        }

    @staticmethod
    def from_dict(raw: JsonObject, where: str) -> History:
        """The history that `as_dict` wrote.

        Args:
            raw: Plain values.
            where: What they were read from, for the message.

        Raises:
            VersionError: They are no history.
        """
        return checked(History, raw, where, "restore the version from a copy")


def main_measure(scenario: str) -> str:
    """The measure reported first: without the task id, except where the scenario gives it."""
    return "test_own" if scenario == "task_incremental" else "test_all"


def rounded(matrix: Sequence[Sequence[float | None]] | None) -> Matrix | None:
    """A matrix with six decimals, as it is printed."""
    if matrix is None:
        return None
    return [[None if v is None else round(v, 6) for v in row] for row in matrix]
