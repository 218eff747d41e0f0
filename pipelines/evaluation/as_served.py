"""What a version does for whoever asks its endpoint, measured by the code that will answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ratchet.pipelines.evaluation.flips import unpack_right
from ratchet.pipelines.evaluation.learned_answers import ServedBits
from ratchet.pipelines.evaluation.row_outcomes import RowOutcomes
from ratchet.pipelines.registry.answer_rule import AnswerRule
from ratchet.pipelines.report.data import ServedTask


def served_task(bits: ServedBits) -> ServedTask:
    """The shares of packed answers to rows of one task."""
    right = unpack_right(bits.right)
    number = max(1, len(right))
    parts = [
        float(np.count_nonzero(found)) / number
        for found in (right, unpack_right(bits.other_task), unpack_right(bits.rejected))
    ]
    rounded = [round(part, 6) for part in (*parts, max(0.0, 1.0 - sum(parts)))]
    return ServedTask(*rounded, num_rows=len(right))


@dataclass(frozen=True)
class OutOfScopeRows:
    """What becomes of text that belongs to no task.

    Attributes:
        num_accepted: How much of it is answered as if it did.
        num_rows: How much there is.
    """

    num_accepted: int
    num_rows: int


@dataclass(frozen=True)
class AsServed:
    """What the serving code makes of a version.

    Attributes:
        average_accuracy: Mean over tasks of what requests that name no task get, on test rows.
        tasks: By the task's name.
        answering: The rule that answers them, and what it was chosen by.
        out_of_scope: What becomes of text of no task; None where there is none to ask about.
    """

    average_accuracy: float
    tasks: Mapping[str, ServedTask]
    answering: AnswerRule
    out_of_scope: OutOfScopeRows | None = None


@dataclass(frozen=True)
class ServedFindings:
    """What was found when a version was loaded from its files.

    Attributes:
        rows: How it answered the validation rows of each task, by its name.
        as_served: The same of test rows; None where it is not asked without a task, or not
            loaded.
        problems: Why it must not answer, a sentence each; empty where nothing is wrong.
    """

    rows: Mapping[str, RowOutcomes]
    as_served: AsServed | None
    problems: tuple[str, ...] = ()
