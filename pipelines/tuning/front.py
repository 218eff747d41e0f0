"""The trials that no other beats in everything: which they are, how far they reach, the knee."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ratchet.pipelines.tuning.trial import Trial

Point = tuple[float, ...]
FIXED_REFERENCE: Mapping[str, float] = {"plasticity": 0.0, "stability": -1.0}
TIE = 1e-9


@dataclass(frozen=True)
class Placed:
    """A finished trial, and its objectives in the order of the study; each is to be made large."""

    trial: Trial
    point: Point


def placed(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Placed]:
    """The trials that are done and have a finite value in every objective."""
    found = []
    for trial in trials:
        values = [trial.objective(name) for name in objectives] if trial.status == "done" else []
        known = tuple(value for value in values if value is not None and math.isfinite(value))
        if known and len(known) == len(objectives):
            found.append(Placed(trial, known))
    return found


def dominates(one: Point, other: Point) -> bool:
    """Whether a point is nowhere worse than another and somewhere better."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def front(trials: Sequence[Trial], objectives: Sequence[str]) -> list[Placed]:
    """The Pareto set: finished trials that no finished trial dominates.

    Trials that measured exactly the same are on it together, or not at all.

    Returns:
        The best in the first objective first; equals by number.
    """
    found = placed(trials, objectives)
    members = [
        own for own in found if not any(dominates(other.point, own.point) for other in found)
    ]
    return sorted(members, key=lambda own: (*(-v for v in own.point), own.trial.number))


def reference_point(trials: Sequence[Trial], objectives: Sequence[str]) -> Point:
    """The corner from which `hypervolume` measures, where the caller gives none.

    Plasticity 0 and stability -1 are fixed, so that the volumes of two searches compare, whatever
    bad trials either of them tried: a corner at the worst trial would reward a search for having
    found a worse one. Cost has no natural worst: there it is the costliest finished trial of these,
    and two studies with a cost compare only from a corner that is given to both.
    """
    found = placed(trials, objectives)
    return tuple(
        FIXED_REFERENCE[name]
        if name in FIXED_REFERENCE
        else min((own.point[axis] for own in found), default=0.0)
        for axis, name in enumerate(objectives)
    )


def hypervolume(points: Sequence[Point], reference: Point) -> float:
    """The volume between a reference and the points: of all that lies below at least one of them.

    Exact. Points that are not above the reference in every objective add nothing. The last
    objective is swept from its best value down; between two values the others' volume is constant.

    Args:
        points: Objectives to be made large, `[points, objectives]`, one to three objectives.
        reference: The corner, `[objectives]`.
    """
    inside = [
        tuple(v - r for v, r in zip(point, reference, strict=True))
        for point in points
        if all(v > r for v, r in zip(point, reference, strict=True))
    ]
    return _volume(inside)


def _volume(points: Sequence[Point]) -> float:
    """Hypervolume above the origin of points that are above it."""
    if not points:
        return 0.0
    if len(points[0]) == 1:
        return max(point[0] for point in points)
    if len(points[0]) == 2:
        return _area(points)
    ordered = sorted(points, key=lambda point: -point[-1])
    slices = []
    for index, point in enumerate(ordered):
        below = ordered[index + 1][-1] if index + 1 < len(ordered) else 0.0
        if point[-1] > below:
            slices.append((point[-1] - below) * _volume([own[:-1] for own in ordered[: index + 1]]))
    return math.fsum(slices)


def _area(points: Sequence[Point]) -> float:
    """Area of a staircase, strip by strip from the right."""
    strips, height = [], 0.0
    for x, y in sorted(points, reverse=True):
        if y > height:
            strips.append(x * (y - height))
            height = y
    return math.fsum(strips)


def knee(members: Sequence[Placed]) -> Trial | None:
    """The trial of a front that is furthest out from between its ends.

    Each objective is scaled to [0, 1] over the front; one that is the same for all is left out. The
    distance is from the line (two objectives) or plane (three) through the corners where one
    objective is best and the others are worst; with two, these are the ends of the front. It is
    signed: a dent in the front is no knee, so a front that only dents has its knee at an end. This
    is the largest bulge of Das, "On characterizing the knee of the Pareto curve" (1999), with the
    corners of the scaled box in place of the single best points, which need not differ with three
    objectives.

    Ties, to within 1e-9, go to the higher average accuracy on validation rows, then to the lower
    number. So a front of one trial has it as its knee, and a front of two the more accurate one.
    """
    if not members:
        return None
    distances = _bulges([own.point for own in members])
    furthest = max(distances)
    tied = [
        own.trial
        for own, distance in zip(members, distances, strict=True)
        if distance > furthest - TIE
    ]
    return best_by(tied, lambda trial: trial.mean("average_accuracy"))


def best_by(trials: Sequence[Trial], *measures: Callable[[Trial], float | None]) -> Trial:
    """The trial with the largest measures, the first deciding; a missing one is the smallest.

    What is equal in all of them goes to the lower number.
    """

    def key(trial: Trial) -> tuple[float, ...]:
        found = [measure(trial) for measure in measures]
        return (*(-math.inf if value is None else value for value in found), -trial.number)

    return max(trials, key=key)


def _bulges(points: Sequence[Point]) -> list[float]:
    """How far each point lies beyond the plane through the corners of the scaled box."""
    columns = [column for column in zip(*points, strict=True) if min(column) < max(column)]
    if not columns:
        return [0.0 for _ in points]
    scaled = [
        [(value - min(column)) / (max(column) - min(column)) for value in column]
        for column in columns
    ]
    root = math.sqrt(len(columns))
    return [(math.fsum(values) - 1.0) / root for values in zip(*scaled, strict=True)]
