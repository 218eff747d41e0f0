"""What an update would do, without doing it: rows, steps, parameters, bytes, time."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TypedDict

from ratchet.pipelines.data.batching import num_steps
from ratchet.pipelines.evaluation.paired import loss_told
from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.spec.auto_fields import is_searched, num_trainings
from ratchet.pipelines.spec.methods import MethodConfig
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.types import Task
from ratchet.pipelines.update.miniature import Miniature, StageSizes, teach_miniature
from ratchet.pipelines.update.plan import Plan, make_plan
from ratchet.pipelines.update.start import open_start

RAY_START_SECONDS = 20.0
"""From the start of Ray to the first step of its workers, as measured on two cores."""


TURNED = 0.06
"""The share of a task's rows whose answers an update commonly turns, either way."""


class PlannedTask(TypedDict):
    """A task that would be taught: its rows, labels, the tasks beside it, and its steps."""

    name: str
    num_train: int
    num_validation: int
    num_test: int
    labels: list[str]
    taught_with: list[str]
    num_steps: int


class PlannedParameters(TypedDict):
    """Parameters after the last stage, of the base, and those that train in which stages."""

    total: int
    base: int
    trainable: dict[str, int]


class PlannedSeconds(TypedDict):
    """An estimate, by phase; what the probe took, and what it was."""

    estimate: float
    by_phase: dict[str, float]
    probe: float
    basis: str


class PlannedGate(TypedDict):
    """What the gate will be able to say.

    Attributes:
        max_forgetting: The limit for a task among its own labels.
        max_served_loss: The limit for it as `auto` answers.
        loss_told: Of each task of the version, the smallest loss that its held-out rows tell from
            none with 80 %, where an update turns `turned` of them; None of a task without rows.
        turned: The share of rows that is taken to turn, either way.
    """

    max_forgetting: float
    max_served_loss: float
    loss_told: dict[str, float | None]
    turned: float


class PlannedUpdate(TypedDict):
    """What `ratchet plan --json` prints.

    Attributes:
        lineage: Name of the lineage.
        parent: Number of the version that it would start from; None for the base model.
        scenario: The scenario.
        model: The base model.
        methods: Types of the methods.
        precision: What it would be taught in.
        tasks: What would be taught.
        num_steps: Optimizer steps in all.
        search: The `least` and the `most` trainings that finding what is left to `auto` takes,
            beside the one that teaches each task; None where nothing is.
        parameters: How many.
        bytes: Of the version, by part.
        seconds: How long.
        gate: What the gate will be able to say.
        warnings: What was found wrong with the data, a sentence each.
    """

    lineage: str
    parent: int | None
    scenario: str
    model: str
    methods: list[str]
    precision: str
    tasks: list[PlannedTask]
    num_steps: int
    search: dict[str, int] | None
    parameters: PlannedParameters
    bytes: dict[str, int]
    seconds: PlannedSeconds
    gate: PlannedGate
    warnings: list[str]


def describe_update(spec: UpdateSpec, registry: Registry) -> PlannedUpdate:
    """What `ratchet plan` says of a spec.

    The data is read and checked as an update does it, and a miniature of the update is taught to
    measure seconds and bytes; nothing is kept.

    Args:
        spec: What would be taught, with absolute paths.
        registry: Where the lineage's champion is, which the update would start from.

    Returns:
        Plain JSON values.

    Raises:
        RatchetError: Whatever would keep the update from starting.
    """
    champion = registry.champion(spec.lineage)
    parent = None if champion is None else registry.fetched(spec.lineage, champion)
    tokenizer = load_tokenizer(spec.model)
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(spec, open_start(parent), tokenizer, Path(folder))
        mini = teach_miniature(plan, tokenizer)
        return {
            "lineage": spec.lineage,
            "parent": champion,
            "scenario": spec.scenario,
            "model": spec.model.name,
            "methods": [method.type for method in spec.methods],
            "precision": mini.precision,
            "tasks": [_task(plan, task, mini.trains) for task in plan.job.new],
            "num_steps": sum(_steps(plan, stage, mini.trains) for stage in plan.job.stages),
            "search": _search(plan),
            "parameters": _parameters(plan, mini),
            "bytes": _bytes(plan, mini),
            "seconds": _seconds(plan, mini),
            "gate": _gate(plan),
            "warnings": list(plan.warnings),
        }


def _gate(plan: Plan) -> PlannedGate:
    rule = plan.job.spec.gate
    numbers = {task.name: len(plan.texts[task.id].validation) for task in plan.job.tasks}
    return {
        "max_forgetting": rule.max_forgetting,
        "max_served_loss": rule.max_served_loss,
        "loss_told": {
            name: round(loss_told(number, TURNED, rule.confidence), 4) if number else None
            for name, number in numbers.items()
        },
        "turned": TURNED,
    }


def _task(plan: Plan, task: Task, trains: bool) -> PlannedTask:
    texts = plan.texts[task.id]
    rows = plan.data.train[task.stage]
    stage = next(stage for stage in plan.job.stages if stage[0].stage == task.stage)
    return {
        "name": task.name,
        "num_train": int((rows.task_ids == task.id).sum()),
        "num_validation": len(texts.validation),
        "num_test": len(texts.test),
        "labels": [plan.job.labels[index] for index in task.class_ids],
        "taught_with": [other.name for other in stage if other != task],
        "num_steps": _steps(plan, stage, trains),
    }


def _steps(plan: Plan, stage: tuple[Task, ...], trains: bool) -> int:
    """Optimizer steps of a stage; none where nothing is learned by gradient."""
    training = plan.job.spec.training
    rows = len(plan.data.train[stage[0].stage])
    return num_steps(rows, training.batch_size) * training.num_epochs if trains else 0


def _search(plan: Plan) -> dict[str, int] | None:
    if not is_searched(plan.job.spec):
        return None
    least, most = zip(*(_trainings(plan, stage) for stage in plan.job.stages), strict=True)
    return {"least": sum(least), "most": sum(most)}


def _trainings(plan: Plan, stage: tuple[Task, ...]) -> tuple[int, int]:
    return num_trainings(plan.job.spec, is_first=stage[0].id == 0)


def _parameters(plan: Plan, mini: Miniature) -> PlannedParameters:
    grown = _at_the_end(plan, mini, "learned_parameters")
    total = mini.total_parameters + grown - mini.stages[-1].sizes.learned_parameters
    trainable = [int(stage.costs["trainable_parameters"]) for stage in mini.stages]
    return {
        "total": total,
        "base": mini.base_parameters,
        "trainable": {"first_stage": trainable[0], "later_stages": trainable[-1]},
    }


def _bytes(plan: Plan, mini: Miniature) -> dict[str, int]:
    """Bytes after the last stage: extrapolated from the miniature's stages, in a straight line."""
    held_out = sum(
        len(text.encode())
        for texts in plan.texts.values()
        for text in (*texts.validation, *texts.test)
    )
    sizes = {
        "learned_weights": _at_the_end(plan, mini, "learned_bytes"),
        "method_state": _at_the_end(plan, mini, "state_bytes"),
        "memory": _memory_bytes(plan, mini),
        "router": _at_the_end(plan, mini, "router_bytes"),
        "held_out_rows": held_out,
    }
    return {**sizes, "version": sum(sizes.values())}


def _at_the_end(plan: Plan, mini: Miniature, name: str) -> int:
    first: StageSizes = mini.stages[0].sizes
    last: StageSizes = mini.stages[-1].sizes
    growth = getattr(last, name) - getattr(first, name)
    return getattr(last, name) + growth * (len(plan.job.stages) - len(mini.stages))


def _memory_bytes(plan: Plan, mini: Miniature) -> int:
    """Bytes of the replay memory when it is full, or holds every row."""
    sizes = mini.stages[-1].sizes
    capacity = sum(_capacity(method) for method in plan.job.spec.methods)
    rows = sum(len(rows) for rows in plan.data.train.values())
    if plan.job.parent is not None:
        rows = capacity
    return round(min(capacity, rows) * sizes.memory_bytes / max(1, sizes.memory_rows))


def _capacity(method: MethodConfig) -> int:
    return int(getattr(method, "capacity", 0)) if method.stores_examples else 0


def _seconds(plan: Plan, mini: Miniature) -> PlannedSeconds:
    """Seconds of each phase: the miniature's, scaled to the update's rows; a search at most."""
    phases = {"load": mini.load_seconds, "train": 0.0, "end_task": 0.0}
    phases |= {"router": 0.0, "evaluate": 0.0, "calibrate": 0.0}
    if plan.job.spec.scaling.num_workers:
        phases["start_workers"] = RAY_START_SECONDS
    held_out = {task.id: len(plan.data.held_out[task.id].rows) for task in plan.job.tasks}
    for place, stage in enumerate(plan.job.stages):
        measured = mini.stages[min(place, len(mini.stages) - 1)]
        scale = len(plan.data.train[stage[0].stage]) / measured.num_rows
        costs = measured.costs
        phases["train"] += costs["train_seconds"] * scale
        if is_searched(plan.job.spec):
            tried = costs["train_seconds"] * scale * _trainings(plan, stage)[1]
            phases["search"] = phases.get("search", 0.0) + tried
        phases["router"] += costs["router_seconds"] * scale
        # Without gradients the end of a task solves for the weights, whatever the number of rows.
        phases["end_task"] += costs["end_task_seconds"] * (scale if mini.trains else 1.0)
        seen = [task for task in plan.job.tasks if task.stage <= stage[0].stage]
        looked_at = seen if mini.looks_again else stage
        per_row = mini.stages[0].costs["evaluate_seconds"] / mini.stages[0].num_held_out
        phases["evaluate"] += per_row * sum(held_out[task.id] for task in looked_at)
    measured_rows = sum(stage.num_held_out for stage in mini.stages)
    phases["calibrate"] = mini.calibrate_seconds * sum(held_out.values()) / measured_rows
    return {
        "estimate": round(sum(phases.values()), 1),
        "by_phase": {phase: round(spent, 1) for phase, spent in phases.items()},
        "probe": round(mini.seconds, 1),
        "basis": _basis(plan, mini),
    }


def _basis(plan: Plan, mini: Miniature) -> str:
    rows = " and ".join(str(stage.num_rows) for stage in mini.stages)
    threads = "1 thread" if mini.num_threads == 1 else f"{mini.num_threads} threads"
    return (
        f"{rows} rows of {len(mini.stages)} of {len(plan.job.stages)} stages, really taught "
        f"({mini.device}, {threads}, {mini.precision}) in {mini.seconds:.0f} s and scaled to all "
        "rows; other load on the machine is in it"
    )
