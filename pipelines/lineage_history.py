"""The measurements of a lineage: those of its version and those of an update from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipelines.outcome import History
from pipelines.training.job import UpdateJob
from pipelines.version import read_matrix


def lineage_history(job: UpdateJob, outcome: Mapping[str, Any]) -> History:
    """Every measurement of a lineage, the parent version's rows first.

    Args:
        job: The update.
        outcome: What its workers measured: `scores`, a mapping a stage, and `baseline`.
    """
    rows, baseline = list(outcome["scores"]), dict(outcome["baseline"])
    if job.parent is not None:
        before = History.from_dict(read_matrix(job.parent))
        rows = [*before.rows, *rows]
        baseline = dict(before.baseline)
    return History(
        tuple(task.name for task in job.tasks),
        tuple(task.stage for task in job.tasks),
        tuple(rows),
        baseline,
    )
