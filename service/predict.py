"""Answers from a version inside this process: no server, no Ray."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipelines.errors import NotFoundError
from pipelines.registry import Registry
from service.answering import Answer, Query, answer
from service.frozen_base import BaseShelf
from service.routing import AUTO
from service.schemas import Classification, Route
from service.served_version import load_served_version

ROWS_PER_PASS = 32


def predict(
    home: Path, reference: str, texts: Sequence[str], task: str = AUTO
) -> list[dict[str, Any]]:
    """Classify texts with a version.

    Args:
        home: Where state lives.
        reference: `lineage` (its champion), `lineage@3` or `lineage@challenger`.
        texts: What to classify.
        task: The task that all of them belong to, or `auto` to infer each one's.

    Returns:
        `Classification` of each text as plain values.

    Raises:
        NotFoundError: No such lineage, version or task.
        VersionError: The version is broken.
    """
    folder = Registry(home).resolve(reference)
    version = load_served_version(folder, BaseShelf(best_device()))
    task_id = None if task == AUTO else version.task_id(task)
    if task != AUTO and task_id is None:
        names = version.manifest.task_names
        near = difflib.get_close_matches(task, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Its tasks: {', '.join(names)}"
        raise NotFoundError(f"task: {reference} knows no task {task!r}. {hint}")
    answers: dict[int, Answer] = {}
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    for start in range(0, len(order), ROWS_PER_PASS):
        places = order[start : start + ROWS_PER_PASS]
        passed = answer([Query(texts[place], version, task_id) for place in places])
        answers.update(zip(places, passed, strict=True))
    version.close()
    return [
        classification(index, answers[index]).model_dump(mode="json") for index in range(len(texts))
    ]


def classification(index: int, found: Answer) -> Classification:
    """An answer as the client gets it."""
    return Classification(
        index=index,
        label=found.label,
        probs=found.probs,
        num_classes=len(found.probs),
        route=Route(
            task=found.task,
            version=found.version,
            score=found.score,
            margin=found.margin,
            abstained=found.abstained,
        ),
    )


def best_device() -> torch.device:
    """The GPU that this process was given, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
