"""From a spec to a job: read the data, give every label its class id, tokenize once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.data.prepare import prepare_rows
from ratchet.pipelines.data.prepared import DATA_FOLDER, HeldOut, PreparedData, train_path
from ratchet.pipelines.data.rows import JoinedTexts
from ratchet.pipelines.data.sources import read_rows
from ratchet.pipelines.data.stream import Stream, TaskRows, load_stream
from ratchet.pipelines.data.tokens import TokenizedRows, tokenize
from ratchet.pipelines.errors import DataError, Problem
from ratchet.pipelines.spec.auto_fields import search_warnings
from ratchet.pipelines.spec.methods import head_layout
from ratchet.pipelines.spec.methods.advice import stack_warnings
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.types import Task
from ratchet.pipelines.update.checks import (
    check_answering,
    check_context,
    check_continues,
    check_joint,
    check_memory,
    dropped_methods,
    without_test,
)
from ratchet.pipelines.update.row_lengths import check_lengths
from ratchet.pipelines.update.start import Start
from ratchet.pipelines.version import HeldOutTexts, held_out_of, read_held_out, read_out_of_scope


@dataclass(frozen=True)
class Plan:
    """An update, ready to be taught.

    Attributes:
        job: What the workers get.
        data: What they learn from.
        texts: Validation and test rows of every task, by task id, for the version.
        warnings: What was noticed in the data.
        out_of_scope: Text that belongs to no task, for the version.
    """

    job: UpdateJob
    data: PreparedData
    texts: dict[int, HeldOutTexts]
    warnings: tuple[str, ...]
    out_of_scope: tuple[str, ...] = ()


def make_plan(
    spec: UpdateSpec, start: Start, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> Plan:
    """Read and check the data, number the classes, tokenize.

    Raises:
        DataError: With every problem found in the data.
        SpecError: The spec cannot go on from the lineage's version.
    """
    check_joint(spec)
    check_answering(spec)
    check_continues(spec, start)
    check_context(spec)
    taught = {task.name: [start.labels[index] for index in task.class_ids] for task in start.tasks}
    stream = load_stream(spec, taught, folder / DATA_FOLDER / "texts", tokenizer)
    tasks, labels = number_tasks(spec, start, stream)
    check_memory(spec, tasks)
    job = UpdateJob(
        spec=spec,
        labels=labels,
        tasks=tasks,
        num_past=len(start.tasks),
        folder=folder,
        parent=start.parent,
    )
    train = _training_rows(job, stream, tokenizer)
    texts = _held_out_texts(job, stream, start)
    held_out = {task.id: _held_out(job, task, texts[task.id], tokenizer) for task in job.tasks}
    cut: list[str] = []
    if job.is_language:
        cut = check_lengths(job, stream, train, held_out, int(str(tokenizer.eos_token_id)))
    about_methods = [
        *dropped_methods(spec, start),
        *stack_warnings(spec.methods, spec.model.kind),
        *search_warnings(spec),
    ]
    warnings = (*stream.warnings, *cut, *without_test(stream), *about_methods)
    scope = _out_of_scope(spec, start)
    return Plan(job, PreparedData(train, held_out), texts, warnings, scope)


def _out_of_scope(spec: UpdateSpec, start: Start) -> tuple[str, ...]:
    """Text of no task: what the spec names, or what the version that it goes on from keeps.

    Raises:
        DataError: With every problem found in the files.
    """
    named = spec.routing.out_of_scope
    if named is None:
        return () if start.parent is None else tuple(read_out_of_scope(start.parent))
    # Whatever label such text has says nothing: its own column stands in for one.
    found, problems = read_rows(named, spec.columns.model_copy(update={"label": spec.columns.text}))
    texts, _ = held_out_of(found.texts, found.texts, spec.data.max_held_out_rows)
    if not problems and not texts:
        problems = [Problem(named, "holds no text", hint="Add some, or remove the field")]
    if problems:
        raise DataError(problems)
    return tuple(texts)


def number_tasks(
    spec: UpdateSpec, start: Start, stream: Stream
) -> tuple[tuple[Task, ...], tuple[str, ...]]:
    """Tasks and labels of the lineage with those of this update.

    New classes are numbered on from the old ones. With one shared head every task has the same
    class ids.
    """
    tasks, labels = list(start.tasks), list(start.labels)
    is_language = spec.model.kind == "causal_lm"  # answers with text: no head to be shared
    shared = not is_language and head_layout(spec.methods, spec.scenario) == "shared"
    first_stage = 1 + max((task.stage for task in tasks), default=-1)
    for place, rows in enumerate(stream.tasks):
        if shared and labels:
            _check_shared_head(rows, labels)
            class_ids = tuple(sorted(labels.index(label) for label in rows.labels))
        else:
            class_ids = tuple(range(len(labels), len(labels) + len(rows.labels)))
            labels += rows.labels
        stage = first_stage if spec.joint else first_stage + place
        tasks.append(Task(len(tasks), rows.name, class_ids, stage))
    return tuple(tasks), tuple(labels)


def _check_shared_head(rows: TaskRows, labels: Sequence[str]) -> None:
    """Check that a head made for the first task's labels can answer for another task."""
    new = [label for label in rows.labels if label not in labels]
    if new:
        raise DataError(
            [
                Problem(
                    f"task {rows.name}",
                    f"one head serves all tasks of this lineage, and it has the labels {labels}",
                    new,
                    "Correct the labels, or set methods.heads.layout to growing or per_task",
                )
            ]
        )


def class_ids_of(job: UpdateJob, task: Task, labels: Sequence[str]) -> list[int]:
    """The class id of each label within a task."""
    table = {job.labels[index]: index for index in task.class_ids}
    return [table[label] for label in labels]


def _training_rows(
    job: UpdateJob, stream: Stream, tokenizer: PreTrainedTokenizerBase
) -> dict[int, BatchRows]:
    """Rows of each stage: in memory, or streamed from disk where they exceed the budget."""
    parts: dict[int, list[tuple[Task, TaskRows]]] = {}
    for task, rows in zip(job.new, stream.tasks, strict=True):
        parts.setdefault(task.stage, []).append((task, rows))
    train: dict[int, BatchRows] = {}
    with ExitStack() as session:  # all stages share the Ray that one of them may start
        for stage, members in parts.items():
            texts = [rows.train.texts for _, rows in members]
            train[stage] = prepare_rows(
                texts[0] if len(texts) == 1 else JoinedTexts(texts),
                [i for task, rows in members for i in class_ids_of(job, task, rows.train.labels)],
                [task.id for task, rows in members for _ in range(len(rows.train.labels))],
                tokenizer,
                job.spec.training.max_length,
                memory_budget_mb=job.spec.data.memory_budget_mb,
                folder=train_path(job.folder, stage),
                marked=job.is_language,
                session=session,
            )
    return train


def _tokenized(
    job: UpdateJob,
    task: Task,
    texts: Sequence[str],
    labels: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
) -> TokenizedRows:
    return tokenize(
        texts,
        class_ids_of(job, task, labels),
        [task.id] * len(texts),
        tokenizer,
        job.spec.training.max_length,
        job.is_language,
    )


def _held_out_texts(job: UpdateJob, stream: Stream, start: Start) -> dict[int, HeldOutTexts]:
    """Old tasks' rows from the version, new ones from their data; both bounded."""
    texts = {}
    for task in job.past:
        assert start.parent is not None, "past tasks come from a version"
        texts[task.id] = read_held_out(start.parent, task.id)
    for task, rows in zip(job.new, stream.tasks, strict=True):
        texts[task.id] = _bounded(rows, job.spec.data.max_held_out_rows)
    return texts


def _bounded(rows: TaskRows, limit: int) -> HeldOutTexts:
    test = ([], []) if rows.test is None else (rows.test.texts, rows.test.labels)
    return HeldOutTexts(
        *held_out_of(rows.validation.texts, rows.validation.labels, limit),
        *held_out_of(*test, limit),
    )


def _held_out(
    job: UpdateJob, task: Task, texts: HeldOutTexts, tokenizer: PreTrainedTokenizerBase
) -> HeldOut:
    rows = _tokenized(
        job,
        task,
        texts.validation + texts.test,
        texts.validation_labels + texts.test_labels,
        tokenizer,
    )
    return HeldOut(rows, len(texts.validation))


def run_digest(spec: UpdateSpec, start: Start) -> str:
    """A name for the run of a spec from a version: the same run, started again, resumes."""
    return digest_from(spec, None if start.manifest is None else start.manifest.version)


def digest_from(spec: UpdateSpec, version: int | None) -> str:
    """`run_digest` of a spec that starts from the version of a number, or from the base model."""
    start = "base" if version is None else f"version {version}"
    settings = _without_gate(spec).model_dump(mode="json")
    text = json.dumps([start, settings], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _without_gate(spec: UpdateSpec) -> UpdateSpec:
    """The spec without what may change between an interruption and going on."""
    return spec.model_copy(update={"gate": type(spec.gate)(), "tune": None})


def num_train(plan: Plan, task_id: int) -> int:
    """Training rows of a task of this update; 0 for a task of an earlier one."""
    task = plan.job.tasks[task_id]
    rows = plan.data.train.get(task.stage)
    return 0 if rows is None else int((rows.task_ids == task_id).sum())
