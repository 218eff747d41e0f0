"""The runs that a comparison is made of: each contender with each seed, order and model."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ratchet.pipelines.compare.contender import Contender
from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.spec.changes import Change, parse_changes
from ratchet.pipelines.spec.reading import load_spec, parse_spec
from ratchet.pipelines.spec.update_spec import UpdateSpec, spec_as_dict

STACK_FIELDS = ("preset", "methods", "joint", "tune")


@dataclass(frozen=True)
class Design:
    """What a comparison varies.

    Attributes:
        num_seeds: Seeds 0 to this less one, for training and for the methods' own choices.
        num_orders: Orders of the tasks; the first is the spec's own, the others are drawn.
        models: Base models beside the spec's own.
        same_training: Whether all contenders train with the spec's settings alone; otherwise what
            a preset sets (its vetted learning rates and epochs) stands over the spec's.
        changes: Changes to the spec, as `field=value`; they stand over everything else.
    """

    num_seeds: int = 1
    num_orders: int = 1
    models: tuple[str, ...] = ()
    same_training: bool = False
    changes: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlannedRun:
    """One update of a comparison.

    Attributes:
        key: Its name, which is also its folder's.
        method: Name of the contender.
        family: Family of the contender's methods.
        seed: The seed.
        order: The order of the tasks, 0 for the spec's own.
        model: The base model's name.
        spec: The spec, or None when it cannot be run.
        problem: Why it cannot be run, or None.
    """

    key: str
    method: str
    family: str
    seed: int
    order: int
    model: str
    spec: UpdateSpec | None
    problem: str | None


def plan_runs(path: Path, chosen: Sequence[Contender], design: Design) -> list[PlannedRun]:
    """Every run of a comparison: all contenders with the first seed first, then the next seed.

    Args:
        path: The spec's file; its methods, preset and `joint` are replaced.
        chosen: The contenders.
        design: What is varied.

    Raises:
        SpecError: The spec itself cannot be run, whatever the methods.
    """
    check_design(design)
    base = load_spec(path, design.changes)
    changes = parse_changes(design.changes)
    raw = {k: v for k, v in spec_as_dict(base).items() if k not in STACK_FIELDS}
    raw["training"] = base.training.model_dump(mode="json", exclude_unset=True)
    models = [base.model.name, *(_model_name(name) for name in design.models)]
    return [
        _planned(raw, contender, seed, order, models, number, design.same_training, changes)
        for seed in range(design.num_seeds)
        for order in range(design.num_orders)
        for number in range(len(models))
        for contender in chosen
        if order == 0 or not contender.joint  # all at once has no order
    ]


def check_design(design: Design) -> None:
    """Refuse numbers below one, and changes that only some contenders could take.

    Raises:
        SpecError: With each of them.
    """
    problems = [
        Problem(option, "must be at least 1", number)
        for option, number in (("--seeds", design.num_seeds), ("--orders", design.num_orders))
        if number < 1
    ]
    problems += [
        Problem("--set", "a comparison sets the methods itself", text, "Give a stack's own file")
        for text in design.changes
        if text.partition("=")[0].partition(".")[0].strip() in STACK_FIELDS
    ]
    if problems:
        raise SpecError(problems)


def reordered(raw: Mapping[str, Json], order: int) -> JsonObject:
    """A raw spec with its tasks in another order, drawn by number; 0 leaves the spec's own.

    A stream that is cut by classes is cut into other tasks: its classes are drawn in another order.
    """
    if order == 0:
        return dict(raw)
    stream = raw.get("stream")
    if isinstance(stream, Mapping):
        own = stream.get("order")
        number = order + own if isinstance(own, int) else order
        return {**raw, "stream": {**stream, "order": number}}
    tasks = _listed(raw["tasks"])
    random.Random(order).shuffle(tasks)
    return {**raw, "tasks": tasks}


def _listed(value: Json) -> list[Json]:
    assert isinstance(value, Sequence), "the spec was read before"
    return list(value)


def _section(raw: Mapping[str, Json], name: str) -> JsonObject:
    section = raw[name]
    assert isinstance(section, Mapping), "the spec was read before"
    return dict(section)


def _planned(
    raw: Mapping[str, Json],
    contender: Contender,
    seed: int,
    order: int,
    models: Sequence[str],
    number: int,
    same_training: bool,
    changes: Sequence[Change],
) -> PlannedRun:
    parts = [contender.name, f"seed_{seed}"]
    parts += [f"order_{order}"] if order else []
    parts += [f"model_{number}"] if number else []
    training = _section(raw, "training") | ({} if same_training else dict(contender.training))
    full = {
        **reordered(raw, order),
        "model": {**_section(raw, "model"), "name": models[number]},
        "methods": contender.with_seed(seed),
        "joint": contender.joint,
        "training": training | {"seed": seed},
    }
    spec, problem = None, None
    try:
        spec = parse_spec(full, Path.cwd(), changes)
    except SpecError as error:
        problem = str(error)
    return PlannedRun(
        ".".join(parts),
        contender.name,
        contender.family,
        seed,
        order,
        Path(models[number]).name,
        spec,
        problem,
    )


def _model_name(name: str) -> str:
    """A model's name, or the whole path of its folder where it is one."""
    return str(Path(name).resolve()) if Path(name).is_dir() else name
