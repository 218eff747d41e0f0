"""Answers from a version inside this process: no server, no Ray."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from ratchet.pipelines.answering.answer import Answer, Query, answer
from ratchet.pipelines.answering.continuation import Continuation, continue_texts
from ratchet.pipelines.answering.frozen_base import BaseShelf, best_device
from ratchet.pipelines.answering.served_version import load_served_version
from ratchet.pipelines.errors import NotFoundError
from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.registry.registry import Registry

ROWS_PER_PASS = 32


def predict(
    home: Path, reference: str, texts: Sequence[str], task: str | None = None
) -> list[Answer] | list[Continuation]:
    """Classify texts with a version, or continue them with one of a language model.

    Args:
        home: Where state lives.
        reference: `lineage` (its champion), `lineage@3` or `lineage@challenger`.
        texts: What to classify.
        task: The task that all of them belong to, or None to infer each one's.

    Returns:
        What the version says of each text, in their order.

    Raises:
        NotFoundError: No such lineage, version or task.
        VersionError: The version is broken.
    """
    folder = Registry(home).resolve(reference)
    manifest = read_manifest(folder)
    task_id = None if task is None else _known_task(reference, manifest.task_names, task)
    if manifest.kind == "causal_lm":
        return continue_texts(folder, texts, task_id, best_device())
    version = load_served_version(folder, BaseShelf(best_device()))
    answers: dict[int, Answer] = {}
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(order), ROWS_PER_PASS):
        places = order[start : start + ROWS_PER_PASS]
        passed = answer([Query(texts[place], version, task_id) for place in places])
        answers.update(zip(places, passed, strict=True))
    version.close()
    return [answers[index] for index in range(len(texts))]


def _known_task(reference: str, names: Sequence[str], task: str) -> int:
    """The id of a task by its name.

    Raises:
        NotFoundError: The version never learned it.
    """
    if task in names:
        return list(names).index(task)
    near = difflib.get_close_matches(task, names, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"Its tasks: {', '.join(names)}"
    raise NotFoundError(f"task: {reference} knows no task {task!r}. {hint}")
