"""Checks of the tasks of a stream, made before anything is trained, with file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ratchet.pipelines.data.findings import Findings
from ratchet.pipelines.data.rows import Rows, TaskRows
from ratchet.pipelines.spec.methods import Scenario

_OTHER_SCENARIO = (
    "Rename the label in one task, or set `scenario` to task_incremental (the task is named with "
    "each request) or domain_incremental (the tasks share their labels)"
)


def check_tasks(
    tasks: Sequence[TaskRows],
    scenario: Scenario,
    taught_labels: Mapping[str, Sequence[str]],
    findings: Findings,
    *,
    cut_by_classes: bool = False,
    labels_answer: bool = True,
) -> None:
    """Every check of sound rows.

    Args:
        tasks: The tasks of the update.
        scenario: What tasks may share.
        taught_labels: The labels of each task that the lineage has learned already, by name.
        findings: Where what is found goes.
        cut_by_classes: Whether tasks of one label were asked for.
        labels_answer: Whether the model answers with labels; a language model answers with text,
            and tasks of one label, or with labels of others, are sound.
    """
    whole = [task for task in tasks if _check_rows_exist(task, findings)]
    hashes = {
        (task.name, split): text_hashes(rows.texts)
        for task in whole
        for split, rows in task.splits().items()
    }
    for task in whole:
        if labels_answer:
            _check_number_of_labels(task, findings, allow_single=cut_by_classes)
        _check_unknown_labels(task, findings)
        _check_repeats(task, hashes[task.name, "train"], findings)
    _check_names(tasks, taught_labels, findings)
    if scenario == "class_incremental" and labels_answer:
        _check_shared_labels(whole, taught_labels, findings)
    if scenario == "domain_incremental" and labels_answer:
        _check_same_labels(whole, taught_labels, findings)
    _check_leaks(whole, hashes, findings)


def text_hashes(texts: Sequence[str]) -> NDArray[np.int64]:
    """A 64-bit hash of each text, [rows]: comparing them needs no text in memory."""
    return np.fromiter(map(hash, texts), dtype=np.int64, count=len(texts))


def _check_rows_exist(task: TaskRows, findings: Findings) -> bool:
    empty = [split for split, rows in task.splits().items() if len(rows) == 0]
    for split in empty:
        findings.error(
            f"task {task.name}",
            f"its {split} split has no rows",
            "Add rows, or leave the split out: validation is then cut from train, test not reported"
            if split != "train"
            else "Add rows",
        )
    return not empty


def _check_number_of_labels(task: TaskRows, findings: Findings, *, allow_single: bool) -> None:
    if len(task.labels) != 1:
        return
    message = (
        f"task {task.name!r} has a single label, {task.labels[0]!r}: there is nothing to tell apart"
    )
    if allow_single:
        findings.warn(task.train.origins[0], message, "Raise `classes_per_task`")
    else:
        findings.error(task.train.origins[0], message, "A task needs two labels or more")


def _check_unknown_labels(task: TaskRows, findings: Findings) -> None:
    known = frozenset(task.labels)
    for split, rows in task.splits().items():
        unknown: dict[str, list[int]] = {}
        for row, label in enumerate(rows.labels):
            if label not in known:
                unknown.setdefault(label, []).append(row)
        for label, where in unknown.items():
            near = difflib.get_close_matches(label, task.labels, n=1)
            findings.error(
                rows.origins[where[0]],
                f"unknown label {label!r} in {len(where)} {split} rows of task {task.name!r}: "
                "no training row of the task carries it",
                f"Did you mean {near[0]!r}?" if near else "Add training rows, or remove these",
            )


def _check_repeats(task: TaskRows, hashes: NDArray[np.int64], findings: Findings) -> None:
    """Texts that stand more than once in train, with the same label and with another."""
    _, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    earlier = first[inverse]
    repeated = np.flatnonzero(earlier != np.arange(len(hashes))).tolist()
    labels, origins = task.train.labels, task.train.origins
    same = [row for row in repeated if labels[row] == labels[int(earlier[row])]]
    other = [row for row in repeated if labels[row] != labels[int(earlier[row])]]
    if same:
        findings.warn(
            origins[same[0]],
            f"{len(same)} duplicate rows in the train split of task {task.name!r}; "
            f"this one is first at {origins[int(earlier[same[0]])]}",
            "Remove them",
        )
    if other:
        row = other[0]
        findings.warn(
            origins[row],
            f"{len(other)} texts in the train split of task {task.name!r} stand there again with "
            f"another label; this one is {labels[row]!r} here and {labels[int(earlier[row])]!r} "
            f"at {origins[int(earlier[row])]}",
            "Decide for one label",
        )


def _check_names(
    tasks: Sequence[TaskRows], taught_labels: Mapping[str, Sequence[str]], findings: Findings
) -> None:
    for task in tasks:
        if task.name in taught_labels:
            findings.error(
                f"task {task.name}",
                "this lineage has learned a task of this name already",
                "Choose another name",
            )


def _check_shared_labels(
    tasks: Sequence[TaskRows], taught_labels: Mapping[str, Sequence[str]], findings: Findings
) -> None:
    known = {name: frozenset(labels) for name, labels in taught_labels.items()}
    for task in tasks:
        for name, labels in known.items():
            shared = [label for label in task.labels if label in labels]
            if shared and name != task.name:
                findings.error(
                    task.train.origins[_first_with(task.train, shared[0])],
                    f"tasks {name!r} and {task.name!r} share {_listed(shared)}, which "
                    "class_incremental forbids: without a task id no answer is right for both",
                    _OTHER_SCENARIO,
                )
        known[task.name] = frozenset(task.labels)


def _check_same_labels(
    tasks: Sequence[TaskRows], taught_labels: Mapping[str, Sequence[str]], findings: Findings
) -> None:
    """In the domain-incremental scenario only the domain changes, so new labels are suspicious."""
    known = {label for labels in taught_labels.values() for label in labels}
    for task in tasks:
        new = [label for label in task.labels if label not in known]
        if known and new:
            findings.warn(
                task.train.origins[_first_with(task.train, new[0])],
                f"task {task.name!r} brings {_listed(new)} that no earlier task has, although "
                "domain_incremental tasks share their labels",
                "Check the spelling, or set `scenario`",
            )
        known.update(task.labels)


def _first_with(rows: Rows, label: str) -> int:
    return list(rows.labels).index(label)


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(map(repr, labels[:3]))
    noun = "the label" if len(labels) == 1 else f"{len(labels)} labels:"
    return f"{noun} {shown}" + (", …" if len(labels) > 3 else "")


def _check_leaks(
    tasks: Sequence[TaskRows],
    hashes: Mapping[tuple[str, str], NDArray[np.int64]],
    findings: Findings,
) -> None:
    """Rows that are measured on and also taught in this update, or that choose and also report."""
    for source, target in combinations(("train", "validation", "test"), 2):
        index = _TextIndex(
            [task.splits()[source] for task in tasks if source in task.splits()],
            [hashes[task.name, source] for task in tasks if source in task.splits()],
        )
        for task in tasks:
            own = hashes.get((task.name, target))
            found = [] if own is None else list(index.found(own))
            if found:
                row, origin = found[0]
                rows = task.splits()[target]
                findings.warn(
                    rows.origins[row],
                    f"{len(found)} of {len(rows)} {target} rows of task {task.name!r} also stand "
                    f"in {source}; this one at {origin}",
                    f"Remove them from {source}",
                )


class _TextIndex:
    """Finds the texts of one split, of all tasks, by hash."""

    def __init__(self, splits: Sequence[Rows], hashes: Sequence[NDArray[np.int64]]) -> None:
        self.splits = splits
        sizes = np.array([len(rows) for rows in splits], dtype=np.int64)
        self.starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
        joined = np.concatenate([*hashes, np.zeros(0, np.int64)])
        self.hashes, self.rows = np.unique(joined, return_index=True)

    def found(self, hashes: NDArray[np.int64]) -> Iterator[tuple[int, str]]:
        """Each row whose text is in the index, with where the text stands there."""
        for row in np.flatnonzero(np.isin(hashes, self.hashes)).tolist():
            place = int(self.rows[np.searchsorted(self.hashes, hashes[row])])
            split = int(np.searchsorted(self.starts, place, side="right")) - 1
            yield row, self.splits[split].origins[place - int(self.starts[split])]
