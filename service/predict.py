"""Answers from a version inside this process: no server, no Ray."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from pipelines.errors import NotFoundError
from pipelines.manifest import read_manifest
from pipelines.registry import Registry
from service.answering import Answer, Query, answer
from service.continuation import continue_texts
from service.frozen_base import BaseShelf
from service.routing import AUTO
from service.schemas import Classification, Route
from service.served_version import load_served_version

ROWS_PER_PASS = 32


def predict(
    home: Path, reference: str, texts: Sequence[str], task: str = AUTO
) -> list[dict[str, Any]]:
    """Classify texts with a version, or continue them with one of a language model.

    Args:
        home: Where state lives.
        reference: `lineage` (its champion), `lineage@3` or `lineage@challenger`.
        texts: What to classify.
        task: The task that all of them belong to, or `auto` to infer each one's.

    Returns:
        `Classification` of each text as plain values; of a language model, see `continue_texts`.

    Raises:
        NotFoundError: No such lineage, version or task.
        VersionError: The version is broken.
    """
    folder = Registry(home).resolve(reference)
    manifest = read_manifest(folder)
    if manifest.kind == "causal_lm":
        named = None if task == AUTO else _known_task(reference, manifest.task_names, task)
        return continue_texts(folder, texts, named, best_device())
    version = load_served_version(folder, BaseShelf(best_device()))
    task_id = None if task == AUTO else _known_task(reference, manifest.task_names, task)
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
