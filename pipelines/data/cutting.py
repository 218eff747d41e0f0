"""Cutting a data set into tasks, by a column or by classes, and validation off the train split."""

from __future__ import annotations

import random
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ratchet.pipelines.data.checks import text_hashes
from ratchet.pipelines.data.findings import Findings
from ratchet.pipelines.data.rows import Rows, TaskRows
from ratchet.pipelines.spec.update_spec import StreamSpec

_CLASSES_NAME = re.compile(r"classes_(\d+)")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class Draft:
    """A task, or a stream yet to be cut, as it was read; `labels` where an order is asked for."""

    name: str
    train: Rows
    validation: Rows | None
    test: Rows | None
    labels: tuple[str, ...] | None = None


def cut_stream(
    whole: Draft, stream: StreamSpec, taught: Mapping[str, object], findings: Findings
) -> list[Draft]:
    """The tasks of one data set: one a value of `by`, or one a run of `classes_per_task` labels.

    Tasks cut by classes are named `classes_000` and so on, after the highest number that the
    lineage knows.
    """
    if stream.by is not None:
        values = _ordered(_groups(whole.train), stream.order)
        names = _task_names(values, stream.by, findings)
        task_of = {value: i for i, value in enumerate(values)}
        orders: list[tuple[str, ...] | None] = [None] * len(names)
        if stream.order == "given":
            orders = [*_labels_as_given(whole.train, task_of)]
    else:
        labels = _ordered(whole.train.labels, stream.order)
        size = stream.classes_per_task or 1
        runs = [labels[start : start + size] for start in range(0, len(labels), size)]
        first = 1 + max((_number(name) for name in taught), default=-1)
        names = [f"classes_{first + i:03d}" for i in range(len(runs))]
        task_of = {label: i for i, run in enumerate(runs) for label in run}
        orders = [tuple(run if stream.order == "given" else sorted(run)) for run in runs]
    column = stream.by or "label"
    train, validation, test = (
        _split_up(rows, task_of, len(names), column, findings)
        for rows in (whole.train, whole.validation, whole.test)
    )
    return [
        Draft(name, of_task, validation[i], test[i], orders[i])
        for i, (name, of_task) in enumerate(zip(names, train, strict=True))
        if of_task is not None
    ]


def _groups(rows: Rows) -> Sequence[str]:
    return rows.labels if rows.groups is None else rows.groups


def _ordered(values: Sequence[str], order: str | int) -> list[str]:
    distinct = list(dict.fromkeys(values))
    if order == "given":
        return distinct
    distinct.sort()
    if isinstance(order, int):
        random.Random(order).shuffle(distinct)
    return distinct


def _labels_as_given(train: Rows, task_of: Mapping[str, int]) -> list[tuple[str, ...]]:
    seen: list[dict[str, None]] = [{} for _ in task_of]
    for group, label in zip(_groups(train), train.labels, strict=True):
        seen[task_of[group]][label] = None
    return [tuple(labels) for labels in seen]


def _task_names(values: Sequence[str], column: str, findings: Findings) -> list[str]:
    """Names of tasks made of a column's values: what a name may not hold becomes `_`."""
    names = [_NOT_IN_NAMES.sub("_", value).strip("_.-")[:64] for value in values]
    for i, name in enumerate(names):
        if not name or name in names[:i]:
            findings.error(
                f"stream.by: {column}",
                f"the value {values[i]!r} makes no task name of its own ({name!r})",
                "Give each task a value of letters, digits, '_', '.' and '-'",
            )
    return names


def _number(task_name: str) -> int:
    match = _CLASSES_NAME.fullmatch(task_name)
    return int(match[1]) if match else -1


def _split_up(
    rows: Rows | None,
    task_of: Mapping[str, int],
    num_tasks: int,
    column: str,
    findings: Findings,
) -> list[Rows | None]:
    """The rows of each task; a row of no task is an error."""
    if rows is None:
        return [None] * num_tasks
    keys = rows.labels if rows.groups is None else rows.groups
    tasks = np.fromiter((task_of.get(key, -1) for key in keys), np.int64, len(rows))
    strange: dict[str, list[int]] = {}
    for row in np.flatnonzero(tasks == -1).tolist():
        strange.setdefault(keys[row], []).append(row)
    for value, where in strange.items():
        findings.error(
            rows.origins[where[0]],
            f"unknown {column} {value!r} in {len(where)} rows: no training row carries it",
            "Add training rows, or remove these",
        )
    return [rows.take(np.flatnonzero(tasks == i)) for i in range(num_tasks)]


def cut_validation(draft: Draft, fraction: float, seed: int) -> TaskRows:
    """The draft as a task; where validation is missing it is cut from train, stratified by label.

    The cut depends on the seed and the task's name alone, not on the other tasks. Texts that stand
    more than once stay in train together, so that the cut makes no leak; every label keeps a row in
    train.
    """
    train, validation = draft.train, draft.validation
    if validation is None:
        chosen = _validation_rows(draft, fraction, seed)
        validation, train = train.take(np.flatnonzero(chosen)), train.take(np.flatnonzero(~chosen))
    labels = draft.labels or tuple(sorted(set(train.labels)))
    return TaskRows(draft.name, labels, train, validation, draft.test)


def _validation_rows(draft: Draft, fraction: float, seed: int) -> np.ndarray:
    _, inverse, counts = np.unique(
        text_hashes(draft.train.texts), return_inverse=True, return_counts=True
    )
    single = counts[inverse] == 1
    labels, label_ids = np.unique(np.asarray(draft.train.labels, dtype=object), return_inverse=True)
    generator = np.random.default_rng([seed, zlib.crc32(draft.name.encode())])
    chosen = np.zeros(len(draft.train), dtype=bool)
    for label in range(len(labels)):
        own = np.flatnonzero(label_ids == label)
        wanted = min(max(1, round(len(own) * fraction)), len(own) - 1)
        candidates = generator.permutation(own[single[own]])
        chosen[candidates[:wanted]] = True
    return chosen
