"""The metrics of continual learning as pure formulas over numbers that were measured elsewhere.

An accuracy matrix has a row for each stage of a lineage and a column for each task: `matrix[i, j]`
is the accuracy on task j after stage i. A stage teaches one task, or several at once (joint
training). What was not measured is NaN or None; a metric that needs such an entry is None rather
than wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AccuracyMatrix:
    """Accuracies after each stage on each task, with the stage that taught each task.

    Attributes:
        values: Accuracies, [stages, tasks], NaN where a task was not evaluated.
        stages: For each task the row of `values` that comes right after it was learned, [tasks].
        baseline: Accuracies of the untrained start, [tasks], NaN where not measured.
    """

    values: Floats
    stages: NDArray[np.intp]
    baseline: Floats

    @property
    def last(self) -> int:
        """The row of the last stage."""
        return self.values.shape[0] - 1

    @property
    def old(self) -> NDArray[np.intp]:
        """The tasks that were learned before the last stage and so can have been forgotten."""
        return np.flatnonzero(self.stages < self.last)

    @property
    def learned(self) -> Floats:
        """The accuracy on each task right after it was learned, [tasks]."""
        return self.values[self.stages, np.arange(len(self.stages))]

    def best(self, task: int, end: int) -> float:
        """The highest accuracy on a task before row `end`.

        NaN when a row since the task was learned is missing. Rows from before the task was learned
        count where they were measured, as in Chaudhry 2018.
        """
        if np.isnan(self.values[self.stages[task] : end, task]).any():
            return float("nan")
        return float(np.nanmax(self.values[:end, task]))


def accuracy_matrix(
    matrix: ArrayLike | Sequence[Sequence[float | None]],
    baseline: ArrayLike | Sequence[float | None] | None = None,
    stages: Sequence[int] | None = None,
) -> AccuracyMatrix:
    """Check a matrix and complete what is not given.

    Args:
        matrix: Accuracies, [stages, tasks]; NaN or None where a task was not evaluated.
        baseline: Accuracies of the untrained start, [tasks].
        stages: The row that taught each task, [tasks]. By default row j taught task j in a square
            matrix, and the only row taught every task in a matrix of one row.

    Raises:
        ValueError: When the shapes do not fit, or `stages` is needed to tell which row taught which
            task.
    """
    values = np.array(matrix, dtype=np.float64)
    if values.ndim != 2 or 0 in values.shape:
        raise ValueError(
            f"matrix: needs [stages, tasks] with at least one of each, got {values.shape}"
        )
    rows, tasks = values.shape
    if stages is None:
        if rows not in (1, tasks):
            raise ValueError(
                f"stages: {rows} rows and {tasks} columns do not say which row taught which task. "
                "Give the row of each task"
            )
        stages = range(tasks) if rows == tasks else [0] * tasks
    taught = np.array(stages, dtype=np.intp)
    if taught.shape != (tasks,) or (taught < 0).any() or (taught >= rows).any():
        raise ValueError(
            f"stages: needs a row from 0 to {rows - 1} for each of {tasks} tasks, got {stages}"
        )
    start = np.full(tasks, np.nan) if baseline is None else np.array(baseline, dtype=np.float64)
    if start.shape != (tasks,):
        raise ValueError(
            f"baseline: needs one accuracy for each of {tasks} tasks, got {start.shape}"
        )
    return AccuracyMatrix(values, taught, start)


def summarize(
    matrix: ArrayLike | Sequence[Sequence[float | None]],
    baseline: ArrayLike | Sequence[float | None] | None = None,
    stages: Sequence[int] | None = None,
) -> dict[str, float | None]:
    """Every metric that needs only the accuracy matrix, by name; None where it cannot be computed.

    Args:
        matrix: Accuracies, [stages, tasks]; NaN or None where a task was not evaluated.
        baseline: Accuracies of the untrained start, [tasks]; `forward_transfer` needs it.
        stages: The row that taught each task; see `accuracy_matrix`.

    Raises:
        ValueError: When the shapes do not fit.
    """
    checked = accuracy_matrix(matrix, baseline, stages)
    return {name: _known(formula(checked)) for name, formula in FORMULAS.items()}


def average_accuracy(matrix: AccuracyMatrix) -> float:
    """mean_j A[T, j]: what the final model knows."""
    return _mean(matrix.values[-1])


def average_incremental_accuracy(matrix: AccuracyMatrix) -> float:
    """The mean over stages of the average accuracy on the tasks learned so far (Rebuffi 2017)."""
    rows = enumerate(matrix.values)
    return _mean([_mean(row[matrix.stages <= i]) for i, row in rows if (matrix.stages <= i).any()])


def learning_accuracy(matrix: AccuracyMatrix) -> float:
    """mean_j A[j, j]: plasticity, how well each task was learned when it came."""
    return _mean(matrix.learned)


def backward_transfer(matrix: AccuracyMatrix) -> float:
    """mean_{j<T} (A[T, j] − A[j, j]): negative when later tasks cost earlier ones.

    Lopez-Paz 2017, arXiv:1706.08840.
    """
    return _mean((matrix.values[-1] - matrix.learned)[matrix.old])


def forward_transfer(matrix: AccuracyMatrix) -> float:
    """mean_{j>1} (A[j−1, j] − b_j): what earlier tasks give a task before it is learned.

    Lopez-Paz 2017, arXiv:1706.08840.
    """
    later = np.flatnonzero(matrix.stages > 0)
    return _mean(matrix.values[matrix.stages[later] - 1, later] - matrix.baseline[later])


def forgetting(matrix: AccuracyMatrix) -> float:
    """mean_{j<T} (max_{i<T} A[i, j] − A[T, j]): negative when the last stage helped.

    Chaudhry 2018, arXiv:1801.10112.
    """
    return _mean([matrix.best(j, matrix.last) - matrix.values[-1, j] for j in matrix.old])


def forgetting_clamped(matrix: AccuracyMatrix) -> float:
    """mean_{j<T} (max_{i<=T} A[i, j] − A[T, j]): `forgetting`, a task that gained counting zero."""
    return _mean([matrix.best(j, matrix.last + 1) - matrix.values[-1, j] for j in matrix.old])


def forgetting_from_learned(matrix: AccuracyMatrix) -> float:
    """mean_{j<T} (A[j, j] − A[T, j]): measured from right after each task was learned."""
    return _mean((matrix.learned - matrix.values[-1])[matrix.old])


FORMULAS: Mapping[str, Callable[[AccuracyMatrix], float]] = {
    formula.__name__: formula
    for formula in (
        average_accuracy,
        average_incremental_accuracy,
        learning_accuracy,
        backward_transfer,
        forward_transfer,
        forgetting,
        forgetting_clamped,
        forgetting_from_learned,
    )
}


def intransigence(matrix: AccuracyMatrix, joint: ArrayLike) -> float | None:
    """mean_j (A_joint[j] − A[j, j]): what the sequence kept the model from learning.

    Chaudhry 2018, arXiv:1801.10112.

    Args:
        matrix: The sequence's accuracies.
        joint: Accuracies of the same model taught all tasks at once, [tasks].
    """
    upper = np.array(joint, dtype=np.float64)
    if upper.shape != matrix.learned.shape:
        raise ValueError(
            f"joint: needs one accuracy a task, {matrix.learned.shape}, got {upper.shape}"
        )
    return _known(_mean(upper - matrix.learned))


def forgetting_events(history: ArrayLike) -> NDArray[np.int64]:
    """How often each example goes from right to wrong between two looks at it (Toneva 2019).

    An example that was never right counts as the number of looks, which no other example can reach.

    Args:
        history: Whether each example was right at each look, [looks, examples].

    Returns:
        Counts, [examples].
    """
    right = np.array(history, dtype=bool)
    if right.ndim != 2 or len(right) == 0:
        raise ValueError(
            f"history: needs [looks, examples] with at least one look, got {right.shape}"
        )
    events = (right[:-1] & ~right[1:]).sum(axis=0, dtype=np.int64)
    return np.where(right.any(axis=0), events, len(right))


def _mean(values: ArrayLike) -> float:
    """The mean; NaN when there is nothing to average or an entry is missing."""
    array = np.array(values, dtype=np.float64)
    return float(array.mean()) if array.size else float("nan")


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value
