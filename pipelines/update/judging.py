"""A version is loaded before it is believed: from its files, by the code that serves, and asked.

What decides about it is what it then answers, not what was measured while it was taught.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ratchet.pipelines.answering.frozen_base import BaseShelf, best_device
from ratchet.pipelines.answering.golden import check_golden
from ratchet.pipelines.answering.held_out import (
    AskedRows,
    ask_rows,
    chosen_rule,
    num_accepted,
    served_rows,
)
from ratchet.pipelines.answering.served_version import ServedVersion, load_served_version
from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.evaluation.as_served import (
    AsServed,
    OutOfScopeRows,
    ServedFindings,
    served_task,
)
from ratchet.pipelines.evaluation.flips import pack_right, unpack_scores
from ratchet.pipelines.evaluation.row_outcomes import RowOutcomes
from ratchet.pipelines.registry.answer_rule import AnswerRule
from ratchet.pipelines.report.data import ServedTask
from ratchet.pipelines.spec.update_spec import AnswerByChoice
from ratchet.pipelines.version import HeldOutTexts, load_version

MAX_DIFFERING, FEW_ROWS = 0.02, 3
"""Share of a task's validation rows, or as many as this, that may be right here and wrong where it
was taught, or the other way round: another precision turns some that are nearly even."""


def judge_served(
    folder: Path,
    texts: Mapping[int, HeldOutTexts],
    held: Mapping[str, str],
    answer_by: AnswerByChoice,
    out_of_scope: Sequence[str] = (),
    *,
    is_language: bool,
) -> ServedFindings:
    """Load a version from its folder as serving does, and ask it about its held-out rows.

    Args:
        folder: The version's folder, complete but for its name.
        texts: Held-out rows of every task, by its id.
        held: How validation rows were answered with their task id where it was taught, packed, by
            the task's name; nothing to compare with where a task is missing.
        answer_by: How requests that name no task shall be answered.
        out_of_scope: Text that belongs to no task.
        is_language: Whether it is a language model, which is asked by task.
    """
    try:
        if is_language:
            return _of_language(folder, texts, held)
        version = load_served_version(folder, BaseShelf(best_device()))
        check_golden(version, folder)
    except (RatchetError, RuntimeError, ValueError, KeyError, TypeError) as error:
        problem = f"The version cannot be served: loaded from its files, it failed: {error}"
        return ServedFindings({}, None, (problem,))
    with torch.no_grad():
        asked = ask_rows(version, texts)
        rule = chosen_rule(version, asked, answer_by)
        names = {task.id: task.name for task in version.tasks}
        rows = {
            names[task_id]: _outcomes(version, task_id, found, rule, texts[task_id])
            for task_id, found in asked.items()
        }
        tasks = {names[i]: _on_test(version, i, found, rule) for i, found in asked.items()}
        scope = None
        if out_of_scope:
            accepted = num_accepted(version, out_of_scope)
            scope = OutOfScopeRows(accepted, len(out_of_scope))
    version.close()
    average = sum(own.accuracy for own in tasks.values()) / len(tasks)
    differing = (_differs(name, rows[name], taught) for name, taught in held.items())
    problems = tuple(problem for problem in differing if problem is not None)
    return ServedFindings(rows, AsServed(round(average, 6), tasks, rule, scope), problems)


def _of_language(
    folder: Path, texts: Mapping[int, HeldOutTexts], held: Mapping[str, str]
) -> ServedFindings:
    tasks = load_version(folder).tasks
    rows = {
        task.name: RowOutcomes(rows_hash(texts[task.id]), held[task.name], None) for task in tasks
    }
    return ServedFindings(rows, None)


def _outcomes(
    version: ServedVersion, task_id: int, found: AskedRows, rule: AnswerRule, texts: HeldOutTexts
) -> RowOutcomes:
    answered = served_rows(version, task_id, found, rule, slice(0, found.num_validation))
    return RowOutcomes(
        rows=rows_hash(texts),
        own=pack_right(answered.own.tolist()),
        served=answered.served.right,
        other_task=answered.served.other_task,
        rejected=answered.served.rejected,
    )


def _on_test(
    version: ServedVersion, task_id: int, found: AskedRows, rule: AnswerRule
) -> ServedTask:
    """Of test rows; of validation rows where there are none."""
    start = found.num_validation if found.num_validation < len(found.labels) else 0
    some = slice(start, len(found.labels))
    return served_task(served_rows(version, task_id, found, rule, some).served)


def _differs(name: str, answered: RowOutcomes, taught: str) -> str | None:
    """A sentence where answers differ from what was measured; None where they do not."""
    here, there = unpack_scores(answered.own), unpack_scores(taught)
    if len(here) != len(there):
        return f"{name}: {len(here)} rows were answered here, {len(there)} where it was taught."
    number = int((here != there).sum())
    if number <= max(FEW_ROWS, MAX_DIFFERING * len(here)):
        return None
    return (
        f"{name}: the version does not answer as it was measured: loaded from its files, it turns "
        f"{number} of {len(here)} validation rows from right to wrong or back."
    )


def rows_hash(texts: HeldOutTexts) -> str:
    """A hash of a task's validation rows and their labels, in order."""
    found = hashlib.sha256()
    for text, label in zip(texts.validation, texts.validation_labels, strict=True):
        for part in (text, label):
            found.update(str(len(part)).encode() + b":" + part.encode())
    return found.hexdigest()[:32]
