"""From a spec to a job: read the data, give every label its class id, tokenize once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from pipelines.auto_fields import search_warnings
from pipelines.config import UpdateSpec
from pipelines.data.batching import BatchRows
from pipelines.data.prepare import prepare_rows
from pipelines.data.prepared import DATA_FOLDER, HeldOut, PreparedData
from pipelines.data.rows import JoinedTexts
from pipelines.data.stream import Stream, TaskRows, load_stream
from pipelines.data.tokens import TokenizedRows, tokenize
from pipelines.errors import DataError, Problem, SpecError
from pipelines.manifest import Manifest, read_manifest, verify_files
from pipelines.method_config import MethodConfig, head_layout
from pipelines.method_config.advice import stack_warnings
from pipelines.method_config.memory_room import memory_problems
from pipelines.models.load import context_of, model_spec_of
from pipelines.models.source import model_location, weights_hash
from pipelines.row_lengths import check_lengths
from pipelines.training.job import UpdateJob
from pipelines.types import Task
from pipelines.version import HeldOutTexts, configs_of, held_out_of, read_held_out, tasks_of


@dataclass(frozen=True)
class Lineage:
    """Where an update starts.

    Attributes:
        parent: Folder of the version that it grows from, or None for the base model.
        manifest: That version's manifest.
    """

    parent: Path | None
    manifest: Manifest | None

    @property
    def tasks(self) -> tuple[Task, ...]:
        """Tasks that the parent knows."""
        return () if self.manifest is None else tasks_of(self.manifest)

    @property
    def labels(self) -> tuple[str, ...]:
        """Label of each class id that the parent knows."""
        return () if self.manifest is None else tuple(self.manifest.labels)


@dataclass(frozen=True)
class Plan:
    """An update, ready to be taught.

    Attributes:
        job: What the workers get.
        data: What they learn from.
        texts: Validation and test rows of every task, by task id, for the version.
        warnings: What was noticed in the data.
    """

    job: UpdateJob
    data: PreparedData
    texts: dict[int, HeldOutTexts]
    warnings: tuple[str, ...]


def open_lineage(parent: Path | None) -> Lineage:
    """The start of an update: a version's folder, every file of it checked, or None for the base.

    Raises:
        NotFoundError: The folder holds no version.
        VersionError: The version is broken.
    """
    if parent is None:
        return Lineage(None, None)
    manifest = read_manifest(parent)
    verify_files(parent, manifest)
    return Lineage(parent, manifest)


def check_continues(spec: UpdateSpec, lineage: Lineage) -> None:
    """Check that a spec can go on from a version.

    Raises:
        SpecError: Another base model, scenario or structure than the version's.
    """
    if lineage.manifest is None:
        return
    manifest, problems = lineage.manifest, []
    held = f"the lineage {spec.lineage!r} is at version {manifest.version} and keeps"
    base = model_spec_of(manifest)
    for field in ("name", "kind", "pooling", "dtype"):
        given, expected = getattr(spec.model, field), getattr(base, field)
        if given != expected:
            problems.append(Problem(f"model.{field}", f"{held} {expected!r}", given))
    if (
        not problems
        and weights_hash(model_location(spec.model.name)) != (manifest.base_model["sha256"])
    ):
        message = f"{held} the base weights it was grown from, and those found here differ"
        hint = "Install the base model of that version, or start another lineage"
        problems.append(Problem("model.name", message, spec.model.name, hint))
    if spec.scenario != manifest.scenario:
        problems.append(Problem("scenario", f"{held} {manifest.scenario}", spec.scenario))
    mine = [method for method in spec.methods if method.owns_structure]
    theirs = [method for method in configs_of(manifest) if method.owns_structure]
    if mine != theirs:
        message = f"{held} the structure {json.dumps(_plain(theirs))}"
        hint = "Repeat it, or start another lineage"
        problems.append(Problem("methods", message, _plain(mine), hint))
    if problems:
        raise SpecError(problems)


def _plain(methods: Sequence[MethodConfig]) -> list[dict[str, Any]]:
    return [method.model_dump(mode="json") for method in methods]


def check_joint(spec: UpdateSpec) -> None:
    """Check that tasks learned at once do not need parameters of their own.

    Raises:
        SpecError: `joint` with a stack that isolates tasks: all rows would train the last one's.
    """
    owner = next((method for method in spec.methods if method.isolates_tasks), None)
    if spec.joint and owner is not None:
        message = "tasks learned at once share their parameters, and this stack gives each its own"
        has_choice = "per_task" in type(owner).model_fields
        hint = f"Set per_task: false on {owner.type}" if has_choice else f"Remove {owner.type}"
        raise SpecError([Problem("joint", message, True, hint)])


def check_memory(spec: UpdateSpec, tasks: Sequence[Task]) -> None:
    """Check that what is remembered can cover every class of the lineage.

    Raises:
        SpecError: A memory with fewer rows than there are classes.
    """
    groups = [index for task in tasks for index in task.class_ids]
    num_workers = spec.scaling.num_workers
    problems = memory_problems(spec.methods, len(set(groups)), len(groups), num_workers)
    if problems:
        raise SpecError(problems)


def check_context(spec: UpdateSpec) -> None:
    """Check that a model can read texts as long as they are to be.

    However short the rows are: a version is served with the same `max_length`.

    Raises:
        SpecError: `training.max_length` is over the model's positions.
    """
    context, length = context_of(spec.model), spec.training.max_length
    if length > context:
        message = f"exceeds the {context} positions of {spec.model.name}"
        hint = f"Use {context} or less, or a model with more positions"
        raise SpecError([Problem("training.max_length", message, length, hint)])


def make_plan(
    spec: UpdateSpec, lineage: Lineage, tokenizer: PreTrainedTokenizerBase, folder: Path
) -> Plan:
    """Read and check the data, number the classes, tokenize.

    Raises:
        DataError: With every problem found in the data.
        SpecError: The spec cannot go on from the lineage's version.
    """
    check_joint(spec)
    check_continues(spec, lineage)
    check_context(spec)
    taught = {
        task.name: [lineage.labels[index] for index in task.class_ids] for task in lineage.tasks
    }
    stream = load_stream(spec, taught, folder / DATA_FOLDER / "texts", tokenizer)
    tasks, labels = number_tasks(spec, lineage, stream)
    check_memory(spec, tasks)
    job = UpdateJob(
        spec=spec,
        labels=labels,
        tasks=tasks,
        num_past=len(lineage.tasks),
        folder=folder,
        parent=lineage.parent,
    )
    train = _training_rows(job, stream, tokenizer)
    texts = _held_out_texts(job, stream, lineage)
    held_out = {task.id: _held_out(job, task, texts[task.id], tokenizer) for task in job.tasks}
    cut: list[str] = []
    if job.is_language:
        cut = check_lengths(job, stream, train, held_out, int(str(tokenizer.eos_token_id)))
    about_methods = [
        *_dropped_methods(spec, lineage),
        *stack_warnings(spec.methods, spec.model.kind),
        *search_warnings(spec),
    ]
    warnings = (*stream.warnings, *cut, *_without_test(stream), *about_methods)
    return Plan(job, PreparedData(train, held_out), texts, warnings)


def _without_test(stream: Stream) -> list[str]:
    names = [rows.name for rows in stream.tasks if rows.test is None]
    if not names:
        return []
    return [
        f"test is not given for {', '.join(names)}: its reported accuracies are those of the "
        "validation rows, which choose settings too and so flatter"
    ]


def _dropped_methods(spec: UpdateSpec, lineage: Lineage) -> list[str]:
    """What the parent version keeps for later updates, and this spec would not carry on."""
    if lineage.manifest is None:
        return []
    kept = {method.type for method in spec.methods}
    return [
        f"version {lineage.manifest.version} was taught with {method.type}, and this spec is not: "
        f"what {method.type} remembers will not be carried into the new version"
        for method in configs_of(lineage.manifest)
        if method.type not in kept and not method.owns_structure
    ]


def number_tasks(
    spec: UpdateSpec, lineage: Lineage, stream: Stream
) -> tuple[tuple[Task, ...], tuple[str, ...]]:
    """Tasks and labels of the lineage with those of this update.

    New classes are numbered on from the old ones. With one shared head every task has the same
    class ids.
    """
    tasks, labels = list(lineage.tasks), list(lineage.labels)
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


def train_path(folder: Path, stage: int) -> Path:
    """Where the training rows of a stage lie in a run's folder."""
    return folder / DATA_FOLDER / f"train_{stage:03d}"


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


def _held_out_texts(job: UpdateJob, stream: Stream, lineage: Lineage) -> dict[int, HeldOutTexts]:
    """Old tasks' rows from the version, new ones from their data; both bounded."""
    texts = {}
    for task in job.past:
        assert lineage.parent is not None, "past tasks come from a version"
        texts[task.id] = read_held_out(lineage.parent, task.id)
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


def run_digest(spec: UpdateSpec, lineage: Lineage) -> str:
    """A name for the run of a spec from a version: the same run, started again, resumes."""
    return digest_from(spec, None if lineage.manifest is None else lineage.manifest.version)


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
