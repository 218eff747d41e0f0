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

from pipelines.config import UpdateSpec
from pipelines.errors import Problem, SpecError
from pipelines.spec_changes import Change
from pipelines.spec_file import parse_spec
from pipelines.tune_spec import AnyRange, ChoiceRange, IntRange, LogRange, UniformRange

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
    "data.validation_fraction",
    "data.max_held_out_rows",
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

    raw: Mapping[str, Any]
    folder: Path
    changes: tuple[Change, ...] = ()

    @cached_property
    def spec(self) -> UpdateSpec:
        """The spec itself, read once.

        Raises:
            SpecError: With everything that is wrong with it.
        """
        return self.with_settings({})

    def with_settings(self, settings: Mapping[str, Any]) -> UpdateSpec:
        """The spec of a trial.

        Raises:
            SpecError: Its settings do not go together.
        """
        own = [Change(tuple(name.split(".")), value) for name, value in settings.items()]
        return parse_spec(self.raw, self.folder, [*self.changes, *own])

    def without_tune(self, settings: Mapping[str, Any]) -> UpdateSpec:
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


def points_of(own: AnyRange) -> tuple[Any, ...] | None:
    """The values of a range that has finitely many, in order; None for a continuous one."""
    if isinstance(own, ChoiceRange):
        return own.choice
    if isinstance(own, IntRange):
        return tuple(range(own.int[0], own.int[1] + 1))
    if own.points is None:
        return None
    low, high = extremes(own)
    shares = [place / (own.points - 1) for place in range(own.points)]
    if isinstance(own, LogRange):
        inner = [math.exp(math.log(low) + share * math.log(high / low)) for share in shares]
    else:
        inner = [low + share * (high - low) for share in shares]
    return (low, *(float(f"{value:.6g}") for value in inner[1:-1]), high)


def grid(parameters: Mapping[str, AnyRange], fast: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every combination of the ranges' points.

    Args:
        parameters: The space; every range needs `points`.
        fast: Fields that vary fastest. Where those change what the first task learns and the others
            do not, the first trials each teach a first task and the later ones find it taught.

    Raises:
        SpecError: A range without points.
    """
    found: dict[str, tuple[Any, ...]] = {}
    problems = []
    for name, own in parameters.items():
        points = points_of(own)
        if points is None:
            hint = "Add it: {log: [1, 100], points: 3}"
            message = "a grid needs `points` on a continuous range"
            problems.append(Problem(f"tune.parameters.{name}", message, hint=hint))
        else:
            found[name] = points
    if problems:
        raise SpecError(problems)
    order = [name for name in found if name not in fast] + [n for n in found if n in fast]
    combined = itertools.product(*(found[name] for name in order))
    return [{name: values[order.index(name)] for name in found} for values in map(tuple, combined)]


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
    problems = list(_fixed(parameters))
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
        if name in FIXED_FIELDS or name.partition(".")[0] in FIXED_FIELDS:
            hint = "Search fields of training, methods, routing or data"
            yield Problem(f"tune.parameters.{name}", "all trials share this field", hint=hint)
        if name == "training.seed":
            hint = "Set tune.num_seeds to repeat each trial with several"
            yield Problem(f"tune.parameters.{name}", "a seed is not tuned", hint=hint)


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
                where = f"tune.parameters.{self.name}"
                told = Problem(where, message, value, problem.hint)
                self._found.setdefault((problem.where, problem.message), told)


def _values_tried(own: AnyRange) -> tuple[Any, ...]:
    """Values that stand for all of a range; of a continuous one also one within."""
    points = points_of(own)
    if points is not None:
        return points if len(points) <= MAX_WITNESSES else extremes(own)
    low, high = extremes(own)
    return low, low + 0.618 * (high - low), high
