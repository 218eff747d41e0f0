"""The space of a study: fields of a spec and the values that they may take."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import Json
from ratchet.pipelines.spec.changes import Change
from ratchet.pipelines.spec.problems import parameter_path
from ratchet.pipelines.spec.reading import parse_spec
from ratchet.pipelines.spec.tune import AnyRange, ChoiceRange, IntRange, LogRange, UniformRange
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.tuning.trial import Settings

FIXED_FIELDS = (
    "lineage",
    "tune",
    "gate",
    "tasks",
    "stream",
    "scenario",
    "joint",
    "scaling",
    "evaluation",
    "model.kind",
    "columns",
    "data.format",
    "data.strict",
    "data.validation_fraction",
    "data.max_held_out_rows",
    "training.seed",
)
"""What all trials of a study share: they could not be held against each other otherwise."""

MAX_WITNESSES = 20


@dataclass(frozen=True)
class RawSpec:
    """A spec as it was given, from which every trial's spec is made.

    Attributes:
        raw: The mapping that the file holds.
        folder: Where its relative paths start.
        changes: Changes from the command line, below those of a trial.
    """

    raw: Mapping[str, Json]
    folder: Path
    changes: tuple[Change, ...] = ()

    @cached_property
    def spec(self) -> UpdateSpec:
        """The spec itself, read once.

        Raises:
            SpecError: With everything that is wrong with it.
        """
        return self.with_settings({})

    def with_settings(self, settings: Settings) -> UpdateSpec:
        """The spec of a trial.

        Raises:
            SpecError: Its settings do not go together.
        """
        own = [Change(tuple(name.split(".")), value) for name, value in settings.items()]
        return parse_spec(self.raw, self.folder, [*self.changes, *own])

    def without_tune(self, settings: Settings) -> UpdateSpec:
        """The spec of a trial as an update of its own, with nothing left to search."""
        aside = {"tune": None, "preset": None}  # its methods are written out
        return self.with_settings(settings).model_copy(update=aside)


def extremes(own: AnyRange) -> tuple[Any, ...]:
    """The values of a range that stand for all: its ends, or every choice."""
    if isinstance(own, ChoiceRange):
        return own.choice
    if isinstance(own, LogRange):
        return own.log
    return own.uniform if isinstance(own, UniformRange) else own.int


def points_of(own: AnyRange) -> Sequence[Any] | None:
    """The values of a range that has finitely many, in order; None for a continuous one."""
    if isinstance(own, ChoiceRange):
        return own.choice
    if isinstance(own, IntRange):
        return range(own.int[0], own.int[1] + 1)  # there may be more than fit in memory
    if own.points is None:
        return None
    low, high = extremes(own)
    shares = [place / (own.points - 1) for place in range(own.points)]
    if isinstance(own, LogRange):
        inner = [math.exp(math.log(low) + share * math.log(high / low)) for share in shares]
    else:
        inner = [low + share * (high - low) for share in shares]
    return (low, *(float(f"{value:.6g}") for value in inner[1:-1]), high)


def place_of(own: AnyRange, value: Any) -> int | float | None:
    """What stands for a value where a range is drawn from; None where the range does not have it.

    A number stands for itself, unless the range has `points` or is a choice: then its place among
    the values does.
    """
    low, high = extremes(own)[0], extremes(own)[-1]
    points = points_of(own)
    if points is not None and not isinstance(own, IntRange):
        return points.index(value) if value in points else None
    kinds = int if isinstance(own, IntRange) else int | float
    return value if isinstance(value, kinds) and low <= value <= high else None


def holds(parameters: Mapping[str, AnyRange], settings: Settings) -> bool:
    """Whether a space has a point."""
    return settings.keys() == parameters.keys() and all(
        place_of(own, settings[name]) is not None for name, own in parameters.items()
    )


def num_points(own: AnyRange) -> int | None:
    """How many values a range has; None for a continuous one."""
    if isinstance(own, IntRange):
        return own.int[1] - own.int[0] + 1
    return len(own.choice) if isinstance(own, ChoiceRange) else own.points


@dataclass(frozen=True)
class Witness:
    """A value that stands for others of its range, and the spec that has it.

    Attributes:
        name: The field.
        value: Its value.
        spec: The spec, otherwise as it was given.
    """

    name: str
    value: Any
    spec: UpdateSpec


def witnesses(source: RawSpec, parameters: Mapping[str, AnyRange]) -> list[Witness]:
    """Values of every field on its own, the ends among them, tried before anything is taught.

    Args:
        source: The spec, in which nothing is wrong.
        parameters: The fields and their ranges.

    Raises:
        SpecError: With everything that is wrong with any of them.
    """
    problems = [*_fixed(parameters), *_twice(source.spec, parameters)]
    found = []
    for name, own in {} if problems else parameters.items():
        told = _Told(name)
        for value in _values_tried(own):
            with told.trying(value):
                found.append(Witness(name, value, source.with_settings({name: value})))
        problems += told.problems
    if problems:
        raise SpecError(problems)
    return found


def check_witnesses(found: Sequence[Witness], check: Callable[[UpdateSpec], None]) -> None:
    """Check what can be said of a spec only once rows and lineage are known.

    Args:
        found: What `witnesses` gave.
        check: Raises `SpecError` where a spec can be read and still not be taught.

    Raises:
        SpecError: With everything that is wrong with any of them.
    """
    told: dict[str, _Told] = {}
    for own in found:
        with told.setdefault(own.name, _Told(own.name)).trying(own.value):
            check(own.spec)
    problems = [problem for each in told.values() for problem in each.problems]
    if problems:
        raise SpecError(problems)


def _fixed(parameters: Mapping[str, AnyRange]) -> Iterator[Problem]:
    for name in parameters:
        where = parameter_path(name)
        if name == "training.seed":
            hint = "Set tune.num_seeds to repeat each trial with several"
            yield Problem(where, "a seed is not tuned", hint=hint)
            continue
        path = tuple(name.split("."))
        shared = next((own for own in FIXED_FIELDS if _overlap(path, tuple(own.split(".")))), None)
        if shared is not None and shared.startswith(f"{name}."):
            hint = f"Search the other fields of {name} one by one"
            yield Problem(where, f"all trials share {shared}, which is a part of it", hint=hint)
        elif shared is not None:
            hint = "Search fields of training, methods or model"
            yield Problem(where, "all trials share this field", hint=hint)


def _twice(spec: UpdateSpec, parameters: Mapping[str, AnyRange]) -> Iterator[Problem]:
    """Fields that are there under two names, or as a part of another."""
    paths = {name: _path(spec, name) for name in parameters}
    for (one, path), (other, later) in itertools.combinations(paths.items(), 2):
        where = parameter_path(other)
        if path == later:
            message = f"is the same field as {parameter_path(one)}"
            yield Problem(where, message, hint="Remove one of the two")
        elif _overlap(path, later):
            message = f"one of it and {parameter_path(one)} is a part of the other"
            yield Problem(where, message, hint="Search the whole or its parts, not both")


def _path(spec: UpdateSpec, name: str) -> tuple[str, ...]:
    """A field's path, in which a method is named by its place in the list."""
    top, *rest = name.split(".")
    types = [method.type for method in spec.methods]
    if top == "methods" and rest:
        own = rest[0]
        rest[0] = str(types.index(own)) if own in types else own.lstrip("0") or "0"
    return top, *rest


def _overlap(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether a path is the other one, or leads to or from it."""
    return all(mine == theirs for mine, theirs in zip(one, other, strict=False))


class _Told:
    """What is wrong with a field or its values; each thing once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._found: dict[tuple[str, str], Problem] = {}

    @property
    def problems(self) -> list[Problem]:
        return list(self._found.values())

    @contextmanager
    def trying(self, value: Any) -> Iterator[None]:
        try:
            yield
        except SpecError as error:
            for problem in error.problems:
                is_field = problem.where.endswith(self.name.rpartition(".")[2])
                message = problem.message if is_field else f"{problem.where}: {problem.message}"
                where = parameter_path(self.name)
                told = Problem(where, message, value, problem.hint)
                self._found.setdefault((problem.where, problem.message), told)


def _values_tried(own: AnyRange) -> Sequence[Any]:
    """Values that stand for all of a range; of a continuous one also one within."""
    points, number = points_of(own), num_points(own)
    if points is not None and number is not None:
        return points if number <= MAX_WITNESSES else extremes(own)
    low, high = extremes(own)
    return low, low + 0.618 * (high - low), high
