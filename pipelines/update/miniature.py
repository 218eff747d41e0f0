"""A miniature of an update, really taught, to measure what the whole one will cost.

Two of its stages at most, a few batches of each, through the same code as the update itself: so the
seconds and bytes of every method in the stack are measured, and nothing here knows one by name.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.data.prepared import HeldOut, PreparedData
from ratchet.pipelines.data.tokens import TokenizedRows, tokenize
from ratchet.pipelines.models.precision import own_cpus, set_threads
from ratchet.pipelines.models.taught_model import ADDED
from ratchet.pipelines.spec.auto_fields import without_search
from ratchet.pipelines.training.checkpoint import (
    Checkpoint,
    FolderCheckpoints,
    read_checkpoint,
    under,
)
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.stream import StreamTeacher
from ratchet.pipelines.training.workers import SingleWorker
from ratchet.pipelines.types import Task
from ratchet.pipelines.update.plan import Plan

NUM_STAGES = 2
STEPS_PER_STAGE = 8
HELD_OUT_ROWS = 32


@dataclass(frozen=True)
class StageSizes:
    """What lies in memory and on disk after a stage.

    Attributes:
        learned_bytes: Weights that differ from the base model's.
        learned_parameters: Numbers in them.
        state_bytes: The methods' tensors: anchors, importances, sums.
        memory_rows: Remembered examples.
        memory_bytes: Their text.
        router_bytes: The statistics that choose the task.
    """

    learned_bytes: int
    learned_parameters: int
    state_bytes: int
    memory_rows: int
    memory_bytes: int
    router_bytes: int


@dataclass(frozen=True)
class MiniStage:
    """One stage of the miniature.

    Attributes:
        num_rows: Training rows that it had.
        num_held_out: Validation and test rows of its own tasks.
        costs: Seconds by phase (`train_seconds`, …) and `trainable_parameters`.
        sizes: What it left.
    """

    num_rows: int
    num_held_out: int
    costs: Mapping[str, float]
    sizes: StageSizes


@dataclass(frozen=True)
class Miniature:
    """What the miniature of an update measured.

    Attributes:
        stages: One or two stages; the second stands for every later one.
        total_parameters: Numbers in the whole model after them.
        base_parameters: Those of them that are the base model's.
        load_seconds: Loading the model.
        calibrate_seconds: Calibrating the router on the held-out rows.
        seconds: All of it.
        precision: The precision that it ran in.
        trains: Whether anything is learned by gradient steps.
        looks_again: Whether each stage changes what earlier tasks are evaluated with.
        num_threads: Threads that it ran on.
        device: The kind of device that it ran on.
    """

    stages: tuple[MiniStage, ...]
    total_parameters: int
    base_parameters: int
    load_seconds: float
    calibrate_seconds: float
    seconds: float
    precision: str
    trains: bool
    looks_again: bool
    num_threads: int
    device: str


def teach_miniature(plan: Plan, tokenizer: PreTrainedTokenizerBase) -> Miniature:
    """Teach a miniature of a planned update here, on as many threads as its workers have CPUs."""
    started = time.perf_counter()
    num_threads = _use_threads(plan)
    with tempfile.TemporaryDirectory() as name:
        job = _small_job(plan.job, Path(name))
        data = _small_data(plan, job, tokenizer)
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        store = FolderCheckpoints(Path(name) / "checkpoints")
        teacher = StreamTeacher(job, data, SingleWorker(), device, store)
        teacher.run()
        calibrating = time.perf_counter()
        teacher.calibrate()
        calibrated = time.perf_counter()
        stages = tuple(
            _measured(job, data, teacher, index, store.folder) for index in range(len(job.stages))
        )
    model = teacher.model
    return Miniature(
        stages=stages,
        total_parameters=sum(parameter.numel() for parameter in model.parameters()),
        base_parameters=_base_parameters(teacher),
        load_seconds=teacher.costs["start"]["load_seconds"],
        calibrate_seconds=calibrated - calibrating,
        seconds=time.perf_counter() - started,
        precision=teacher.precision,
        trains=teacher.stack.learns_by_gradient,
        looks_again=not (
            model.has_task_adapters or model.reads_base_features or model.features_are_fixed
        ),
        num_threads=num_threads,
        device=device.type,
    )


def _use_threads(plan: Plan) -> int:
    scaling = plan.job.spec.scaling
    cpus = scaling.num_workers * scaling.cpus_per_worker if scaling.num_workers else own_cpus()
    set_threads(min(cpus, own_cpus()))
    return torch.get_num_threads()


def _small_job(job: UpdateJob, folder: Path) -> UpdateJob:
    """The job with its first stages only, without checkpoints inside them."""
    kept = [task for stage in job.stages[:NUM_STAGES] for task in stage]
    spec = without_search(job.spec)
    training = spec.training.model_copy(update={"checkpoint_every_steps": None})
    return replace(
        job,
        spec=spec.model_copy(update={"training": training}),
        tasks=(*job.past, *kept),
        folder=folder,
    )


def _small_data(plan: Plan, job: UpdateJob, tokenizer: PreTrainedTokenizerBase) -> PreparedData:
    training = job.spec.training
    num_rows = training.batch_size * max(1, STEPS_PER_STAGE // training.num_epochs)
    length = training.max_length
    train: dict[int, BatchRows] = {
        stage[0].stage: _sample(plan.data.train[stage[0].stage], num_rows, tokenizer, length)
        for stage in job.stages
    }
    held_out = {
        task.id: _small_held_out(plan.data.held_out[task.id], tokenizer, length)
        for task in job.tasks
    }
    return PreparedData(train, held_out)


def _small_held_out(held: HeldOut, tokenizer: PreTrainedTokenizerBase, length: int) -> HeldOut:
    places = torch.arange(len(held.rows))
    validation = _spread(places[: held.num_validation], HELD_OUT_ROWS)
    test = _spread(places[held.num_validation :], HELD_OUT_ROWS)
    rows = _taken(held.rows, torch.cat([validation, test]), tokenizer, length)
    return HeldOut(rows, len(validation))


def _sample(
    rows: BatchRows, num_rows: int, tokenizer: PreTrainedTokenizerBase, length: int
) -> TokenizedRows:
    """Rows of every length, as frequent as in the whole."""
    return _taken(rows, _spread(rows.by_length(), num_rows), tokenizer, length)


def _spread(places: Tensor, count: int) -> Tensor:
    """At most `count` of some places, evenly spread over them."""
    if len(places) <= count:
        return places
    return places[torch.linspace(0, len(places) - 1, count).round().long()]


def _taken(
    rows: BatchRows, places: Tensor, tokenizer: PreTrainedTokenizerBase, length: int
) -> TokenizedRows:
    index: list[int] = places.tolist()
    texts = [rows.texts[place] for place in index]
    targets, task_ids = rows.targets[places], rows.task_ids[places]
    return tokenize(texts, targets, task_ids, tokenizer, length, rows.marked)


def _measured(
    job: UpdateJob, data: PreparedData, teacher: StreamTeacher, index: int, checkpoints: Path
) -> MiniStage:
    stage = job.stages[index]
    folder = sorted(checkpoints.iterdir())[index]
    return MiniStage(
        num_rows=len(data.train[stage[0].stage]),
        num_held_out=sum(len(data.held_out[task.id].rows) for task in stage),
        costs=_summed(stage, teacher.costs),
        sizes=_sizes(read_checkpoint(folder, rank=0)),
    )


def _summed(stage: Sequence[Task], costs: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Costs of a stage: seconds of its tasks added up, sizes as they are."""
    names = costs[stage[0].name]
    return {
        name: sum(costs[task.name][name] for task in stage)
        if name.endswith("_seconds")
        else names[name]
        for name in names
    }


def _sizes(checkpoint: Checkpoint) -> StageSizes:
    learned = under(checkpoint.shared, "model").values()
    rows = [row for state in checkpoint.methods.values() for row in state.rows]
    memory = sum(len(row.text.encode()) + 16 for row in rows)
    return StageSizes(
        learned_bytes=_bytes(learned),
        learned_parameters=sum(tensor.numel() for tensor in learned),
        state_bytes=sum(_bytes(state.tensors.values()) for state in checkpoint.methods.values()),
        memory_rows=len(rows),
        memory_bytes=memory,
        router_bytes=_bytes(under(checkpoint.shared, "router").values()),
    )


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _base_parameters(teacher: StreamTeacher) -> int:
    """Parameters that the base model has, trained or not."""
    own = {
        name
        for name, _ in teacher.model.named_parameters()
        if name.startswith("backbone.") and not ADDED.search(name)
    }
    return sum(p.numel() for name, p in teacher.model.named_parameters() if name in own)
