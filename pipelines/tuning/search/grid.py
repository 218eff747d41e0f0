"""A grid: every combination of the points of a space, or some of them, spread over it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from scipy.stats import qmc

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.spec.problems import parameter_path
from ratchet.pipelines.spec.tune import AnyRange, TuneSpec
from ratchet.pipelines.tuning.search.space import num_points, points_of
from ratchet.pipelines.tuning.trial import Settings

DRAWS_AT_A_TIME = 64
MAX_POINTS = 10_000
"""Points of a grid that are tried without being asked for."""


class Grid:
    """Every combination of the ranges' points, none of which is made before it is asked for.

    Args:
        parameters: The space; every range needs `points`.
        fast: Fields that vary fastest. Where those change what the first task learns and the others
            do not, the first trials each teach a first task and the later ones find it taught.

    Attributes:
        size: Points of the grid.

    Raises:
        SpecError: A range without points.
    """

    def __init__(self, parameters: Mapping[str, AnyRange], fast: Sequence[str] = ()) -> None:
        self._points: dict[str, Sequence[Any]] = {}
        self._lengths: dict[str, int] = {}
        problems = []
        for name in sorted(parameters, key=lambda name: name in fast):
            points, length = points_of(parameters[name]), num_points(parameters[name])
            if points is None or length is None:
                hint = "Add it: {log: [1, 100], points: 3}"
                message = "a grid needs `points` on a continuous range"
                problems.append(Problem(parameter_path(name), message, hint=hint))
            else:
                self._points[name], self._lengths[name] = points, length
        if problems:
            raise SpecError(problems)
        self._names = list(parameters)
        self.size = math.prod(self._lengths.values())

    def settings(self, place: int) -> Settings:
        """The point at a place of the grid's order, from 0."""
        found = {}
        for name, length in reversed(self._lengths.items()):
            place, own = divmod(place, length)
            found[name] = self._points[name][own]
        return {name: found[name] for name in self._names}

    def tried(self, number: int, seed: int = 0) -> Iterator[Settings]:
        """So many of the points, in the grid's order; more of them include those of fewer.

        All of them where the grid has no more, else the first of a scrambled Halton sequence, which
        leaves out no end of the grid: points are left out everywhere alike.

        Args:
            number: How many at most.
            seed: Which are left out.
        """
        places = range(self.size) if number >= self.size else sorted(self._spread(number, seed))
        return map(self.settings, places)

    def _spread(self, number: int, seed: int) -> list[int]:
        # SciPy calls it `rng` from 1.15 on, and understands both.
        sequence = qmc.Halton(len(self._lengths), seed=seed)  # pyright: ignore[reportCallIssue]
        found: dict[int, None] = {}
        while len(found) < number:
            for shares in sequence.random(DRAWS_AT_A_TIME).tolist():
                place = 0
                for share, length in zip(shares, self._lengths.values(), strict=True):
                    place = place * length + min(int(share * length), length - 1)
                found.setdefault(place)
        return list(found)[:number]


def check_grid(tune: TuneSpec) -> None:
    """Check that a grid has points, and an end.

    Raises:
        SpecError: A range without points, or too many of them without a budget.
    """
    size = Grid(tune.parameters).size
    if tune.num_trials is None and size > MAX_POINTS:
        message = f"the grid has {size} points, and no budget is given"
        raise SpecError([Problem("tune.num_trials", message, hint="Set it, or give fewer points")])


def cut_warnings(tune: TuneSpec) -> list[str]:
    """A warning where a study tries only some points of its grid.

    Raises:
        SpecError: A grid over a range without points.
    """
    if tune.strategy != "search" or tune.algorithm != "grid" or tune.num_trials is None:
        return []
    size = Grid(tune.parameters).size
    if size <= tune.num_trials:
        return []
    return [
        f"the grid has {size} points, {tune.num_trials} will be tried, spread over it: set "
        f"tune.num_trials to {size}, or remove it, to try them all"
    ]
