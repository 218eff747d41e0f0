"""The `tune` section of a spec: what a study searches, how, and which result is used."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    FiniteFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    StrictInt,
    Tag,
    field_validator,
    model_validator,
)

from ratchet.pipelines.spec.section import Fraction, SpecSection


class _Range(SpecSection):
    """How a searched field may vary."""

    points: Annotated[int, Field(ge=2, le=10_000)] | None = None


class LogRange(_Range):
    """Positive numbers, evenly on a logarithmic scale, as `log: [1.0e-5, 1.0e-3]`.

    With `points`, only so many of them, evenly spaced, both ends included.
    """

    log: tuple[PositiveFloat, PositiveFloat]

    @model_validator(mode="after")
    def _ascends(self) -> LogRange:
        _check_ascending(*self.log)
        return self


class UniformRange(_Range):
    """Numbers, evenly, as `uniform: [0.1, 0.9]`; `points` as in a logarithmic range."""

    uniform: tuple[FiniteFloat, FiniteFloat]

    @model_validator(mode="after")
    def _ascends(self) -> UniformRange:
        _check_ascending(*self.uniform)
        return self


class IntRange(SpecSection):
    """Whole numbers from the first to the second, both included, as `int: [2, 32]`."""

    int: tuple[StrictInt, StrictInt]

    @model_validator(mode="after")
    def _ascends(self) -> IntRange:
        _check_ascending(*self.int)
        return self


class ChoiceRange(SpecSection):
    """One of these values, without an order, as `choice: [fifo, reservoir]`."""

    choice: Annotated[tuple[Any, ...], Field(min_length=2)]

    @model_validator(mode="after")
    def _once(self) -> ChoiceRange:
        _check_once(self.choice)
        return self


def _check_ascending(low: float, high: float) -> None:
    if low >= high:
        raise ValueError(f"a range goes up: {low:g} is not below {high:g}")


def _check_once(values: Sequence[Any]) -> None:
    twice = next((value for place, value in enumerate(values) if value in values[:place]), None)
    if twice is not None:
        raise ValueError(f"{twice!r} is there twice: give each value once")


def _range_kind(value: Any) -> str | None:
    kinds = ("log", "uniform", "int", "choice")
    if isinstance(value, dict):
        return next((kind for kind in kinds if kind in value), None)
    return next((kind for kind in kinds if hasattr(value, kind)), None)


AnyRange = Annotated[
    Annotated[LogRange, Tag("log")]
    | Annotated[UniformRange, Tag("uniform")]
    | Annotated[IntRange, Tag("int")]
    | Annotated[ChoiceRange, Tag("choice")],
    Discriminator(
        _range_kind,
        custom_error_type="range_kind",
        custom_error_message="should be one of log: [low, high], uniform: [low, high], "
        "int: [low, high], choice: [values]",
    ),
]
Objective = Literal["plasticity", "stability", "cost"]


class ChooseSpec(SpecSection):
    """Which trial of the front is used.

    `average_accuracy` takes the best of it, `knee` the point furthest from the line between the
    ends of the front, `bounded_forgetting` the best learning accuracy among the trials whose
    forgetting is at most `max_forgetting`.
    """

    rule: Literal["average_accuracy", "knee", "bounded_forgetting"] = "average_accuracy"
    max_forgetting: Fraction = 0.02


class TuneSpec(SpecSection):
    """A study: what is searched, how, and which result is used; read by `ratchet tune` only.

    With `strategy: stability_decay` there is no search over whole streams: one update decides task
    by task, on the new task alone, among the points of `training.learning_rate` and from the upper
    end of each strength downwards (see the section `stability_decay`).
    `parameters` maps fields of the spec to ranges. After a few blind trials `gp` models each
    objective with a Gaussian process and looks where the front may grow. The budget is `num_trials`
    or `max_seconds`, whichever ends first; by default 24 trials, and all points of a `grid`.
    `num_seeds` repeats each trial and averages. `num_parallel` trials run at a time, by default as
    many as there is room. `num_tasks` lets the study look at no more than the first so many tasks
    of the stream. With `share_prefixes` trials that agree in all that matters to the first task
    teach it once. `warm_start` first tries the front of the lineage's latest study of the same
    fields that has one in this space. Objectives are measured on validation rows.
    """

    parameters: Annotated[dict[str, AnyRange], Field(min_length=1)]
    strategy: Literal["search", "stability_decay"] = "search"
    algorithm: Literal["random", "grid", "gp", "tpe", "nsga2"] = "gp"
    early_stopping: Literal["asha"] | None = None
    num_trials: PositiveInt | None = None
    max_seconds: PositiveFloat | None = None
    num_seeds: PositiveInt = 1
    num_parallel: PositiveInt | None = None
    num_tasks: Annotated[int, Field(ge=2)] | None = None
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1)] = ("plasticity", "stability")
    choose: ChooseSpec = ChooseSpec()
    share_prefixes: bool = True
    warm_start: bool = False
    seed: NonNegativeInt = 0

    @field_validator("objectives")
    @classmethod
    def _each_once(cls, objectives: tuple[Objective, ...]) -> tuple[Objective, ...]:
        _check_once(objectives)
        return objectives
