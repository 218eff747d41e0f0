"""Measures a version on the tasks of a spec, without training."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import torch

from ratchet.pipelines.answering.frozen_base import BaseShelf, best_device
from ratchet.pipelines.answering.held_out import ask_rows, served_rows
from ratchet.pipelines.answering.served_version import load_served_version
from ratchet.pipelines.data.answers import is_open
from ratchet.pipelines.data.prepared import HeldOut
from ratchet.pipelines.data.stream import TaskRows, load_stream
from ratchet.pipelines.data.tokens import tokenize
from ratchet.pipelines.errors import DataError, NotFoundError, Problem
from ratchet.pipelines.evaluation.as_served import served_task
from ratchet.pipelines.evaluation.evaluator import TaskScores
from ratchet.pipelines.evaluation.language import make_evaluator
from ratchet.pipelines.models.load import model_spec_of
from ratchet.pipelines.models.precision import autocast, own_cpus, resolve_precision, set_threads
from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.training.workers import SingleWorker
from ratchet.pipelines.types import Task
from ratchet.pipelines.version import HeldOutTexts, LoadedVersion, load_version

SplitScores = dict[str, dict[str, int | float | None]]
"""Measures of a task by split and name."""


class VersionScores(TypedDict):
    """What `ratchet evaluate --json` prints.

    Attributes:
        lineage: Name of the lineage.
        version: Number of the version.
        scenario: Its scenario.
        scores: By task and split, every measure and `num_rows`; `as_served` is what the serving
            code answers where no task is named, absent for a language model.
        average: The mean over tasks of each accuracy, by split.
        warnings: What was found wrong with the data, a sentence each.
    """

    lineage: str
    version: int
    scenario: str
    scores: dict[str, SplitScores]
    average: dict[str, dict[str, float | None]]
    warnings: list[str]


def evaluate_version(spec: UpdateSpec, folder: Path) -> VersionScores:
    """Scores of a version on validation and test data, with and without the task id.

    Tasks are matched by name; the spec's model, methods and training are not used, except that its
    `training.seed` cuts validation rows from train where none are given, as an update does it.

    Args:
        spec: Names the data, with absolute paths.
        folder: The version's folder.

    Returns:
        Plain JSON values.

    Raises:
        NotFoundError: A task of the spec that the version does not know.
        DataError: With every problem in the data; a label that the task does not have is one.
        VersionError: The version is broken.
    """
    version = load_version(folder)
    by_name = {task.name: task for task in version.tasks}
    stream = load_stream(_as_taught(spec, version), tokenizer=version.model.tokenizer)
    _check_known([rows.name for rows in stream.tasks], by_name)
    set_threads(own_cpus())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    version.model.to(device)
    precision = resolve_precision(spec.training.precision, device)
    evaluator = make_evaluator(
        version.model,
        version.stack,
        version.manifest.labels,
        SingleWorker(),
        autocast("fp32" if version.stack.needs_float32 else precision, device),
        version.manifest.scenario != "task_incremental",
        spec.evaluation,
    )
    for rows in stream.tasks:
        evaluator.held_out[by_name[rows.name].id] = _held_out(rows, by_name[rows.name], version)
    measured = [by_name[rows.name] for rows in stream.tasks]
    scores = evaluator.evaluate(measured, version.tasks, version.router)
    served = _as_served(folder, by_name, stream.tasks)
    by_task = {
        rows.name: _by_split(scores[by_name[rows.name].id], rows, served.get(rows.name, {}))
        for rows in stream.tasks
    }
    return VersionScores(
        lineage=version.manifest.lineage,
        version=version.manifest.version,
        scenario=version.manifest.scenario,
        scores=by_task,
        average=_averages(by_task),
        warnings=list(stream.warnings),
    )


def _as_served(
    folder: Path, by_name: Mapping[str, Task], tasks: Sequence[TaskRows]
) -> dict[str, dict[str, float]]:
    """The share that the serving code answers rightly where no task is named, by task and split."""
    if read_manifest(folder).kind == "causal_lm":
        return {}
    version = load_served_version(folder, BaseShelf(best_device()))
    texts = {by_name[rows.name].id: _texts(rows) for rows in tasks}
    found: dict[str, dict[str, float]] = {}
    with torch.no_grad():
        asked = ask_rows(version, texts)
    for rows in tasks:
        own = asked[by_name[rows.name].id]
        splits = {"validation": slice(0, len(rows.validation))}
        if rows.test is not None:
            splits["test"] = slice(len(rows.validation), None)
        served = {
            split: served_rows(version, by_name[rows.name].id, own, version.rule, some).served
            for split, some in splits.items()
        }
        found[rows.name] = {split: served_task(bits).accuracy for split, bits in served.items()}
    version.close()
    return found


def _texts(rows: TaskRows) -> HeldOutTexts:
    test = ([], []) if rows.test is None else (list(rows.test.texts), list(rows.test.labels))
    return HeldOutTexts(list(rows.validation.texts), list(rows.validation.labels), *test)


def _as_taught(spec: UpdateSpec, version: LoadedVersion) -> UpdateSpec:
    """The spec with the version's model and length, and its answers open or closed as taught."""
    length = int(version.manifest.routing["max_length"])
    names = {
        task.name: [version.manifest.labels[c] for c in task.class_ids] for task in version.tasks
    }
    changes: dict[str, object] = {
        "model": model_spec_of(version.manifest),
        "training": spec.training.model_copy(update={"max_length": length}),
    }
    if spec.tasks is not None:
        changes["tasks"] = tuple(
            task.model_copy(
                update={"answers": "open" if is_open(task.name, names[task.name]) else "closed"}
            )
            if task.name in names
            else task
            for task in spec.tasks
        )
    return spec.model_copy(update=changes)


def _check_known(names: list[str], by_name: Mapping[str, Task]) -> None:
    unknown = [name for name in names if name not in by_name]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], by_name, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"It knows: {', '.join(by_name)}"
    raise NotFoundError(f"tasks: the version never learned {', '.join(unknown)}. {hint}")


def _held_out(rows: TaskRows, task: Task, version: LoadedVersion) -> HeldOut:
    """Validation rows first, then test rows, tokenized as the version's requests are."""
    splits = [rows.validation, *([] if rows.test is None else [rows.test])]
    classes = {version.manifest.labels[index]: index for index in task.class_ids}
    strange = [
        Problem(split.origins[place], f"task {task.name!r} has no such label", label)
        for split in splits
        for place, label in enumerate(split.labels)
        if label not in classes
    ]
    if strange:
        raise DataError(strange[:20])
    texts = [text for split in splits for text in split.texts]
    targets = [classes[label] for split in splits for label in split.labels]
    length = int(version.manifest.routing["max_length"])
    marked = version.model.kind == "causal_lm"
    task_ids = [task.id] * len(texts)
    tokens = tokenize(texts, targets, task_ids, version.model.tokenizer, length, marked)
    return HeldOut(tokens, len(rows.validation))


def _by_split(scores: TaskScores, rows: TaskRows, served: Mapping[str, float]) -> SplitScores:
    raw = scores.as_dict()
    sizes = {"validation": len(rows.validation)}
    if rows.test is not None:
        sizes["test"] = len(rows.test)
    return {
        split: {
            "without_task_id": raw[f"{split}_all"],
            "with_task_id": raw[f"{split}_own"],
            "num_rows": size,
            **({"as_served": served[split]} if split in served else {}),
            **{
                name.removeprefix(f"{split}_"): value
                for name, value in scores.more.items()
                if name.startswith(f"{split}_")
            },
        }
        for split, size in sizes.items()
    }


def _averages(by_task: Mapping[str, SplitScores]) -> dict[str, dict[str, float | None]]:
    """The mean over tasks of each measure; None where a task lacks it."""
    averages: dict[str, dict[str, float | None]] = {}
    for split in ("validation", "test"):
        own = [task[split] for task in by_task.values() if split in task]
        if len(own) == len(by_task):
            averages[split] = {
                measure: _mean([scores[measure] for scores in own])
                for measure in ("without_task_id", "with_task_id", "as_served")
                if measure in own[0]
            }
    return averages


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None
