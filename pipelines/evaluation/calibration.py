"""Where text of no task is cut off, and what that does to text of the tasks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ratchet.pipelines.data.prepared import HeldOut
from ratchet.pipelines.models.prototype_router import Router
from ratchet.pipelines.types import Task


@dataclass(frozen=True)
class RoutedRows:
    """What the router says of a task's test rows.

    Attributes:
        num_rows: How many there are.
        num_accepted: How many of them the threshold lets through.
        num_own_task: How many of them are nearest to their own task, let through or not.
    """

    num_rows: int
    num_accepted: int
    num_own_task: int


@dataclass(frozen=True)
class Calibration:
    """A router's threshold and what it was found to do.

    Attributes:
        threshold: The in-scope score below which text is rejected; of validation rows alone.
        routed: What the router says of the test rows of each task, by the task's name.
    """

    threshold: float
    routed: Mapping[str, RoutedRows]


def calibrate(
    router: Router,
    tasks: Sequence[Task],
    features: Mapping[int, Tensor],
    held_out: Mapping[int, HeldOut],
    accept_fraction: float,
) -> Calibration:
    """Set the threshold by the validation rows of all tasks, and look at the test rows with it.

    Args:
        router: Knows every one of the tasks.
        tasks: All tasks of the version.
        features: Base features of each task's held-out rows by its id, [rows, base_width].
        held_out: Which of these rows are validation and which test rows.
        accept_fraction: Share of the validation rows to let through.
    """
    validation = [features[task.id][held_out[task.id].validation] for task in tasks]
    threshold = router.calibrate(torch.cat(validation), accept_fraction)
    routed = {
        task.name: _routed(router, task, features[task.id][held_out[task.id].test], threshold)
        for task in tasks
    }
    return Calibration(threshold, routed)


def _routed(router: Router, task: Task, rows: Tensor, threshold: float) -> RoutedRows:
    scores = router.scores(rows)
    nearest = scores.task_scores.argmax(dim=-1)
    return RoutedRows(
        num_rows=len(rows),
        num_accepted=int((scores.in_scope >= threshold).sum()),
        num_own_task=int((nearest == task.id).sum()),
    )
