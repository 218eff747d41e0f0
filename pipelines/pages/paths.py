"""Lines of a chart as the `d` of an SVG path: whiskers, steps, and lines through points."""

from __future__ import annotations

from collections.abc import Sequence

from ratchet.pipelines.pages.scale import Scale

Place = tuple[float, float]


def upright_whisker(x: float, ends: Sequence[float] | None, scale: Scale) -> str:
    """An interval above and below a point; empty where it is not known.

    Args:
        x: The point's place.
        ends: Both ends of the interval, as values.
        scale: The axis to the left.
    """
    if ends is None:
        return ""
    first, last = (scale.place(end) for end in ends)
    return f"M{x:g},{first:g}V{last:g}"


def level_whisker(y: float, ends: Sequence[float] | None, scale: Scale) -> str:
    """An interval left and right of a point; empty where it is not known.

    Args:
        y: The point's place.
        ends: Both ends of the interval, as values.
        scale: The axis below.
    """
    if ends is None:
        return ""
    first, last = (scale.place(end) for end in ends)
    return f"M{first:g},{y:g}H{last:g}"


def steps(corners: Sequence[Place]) -> str:
    """Steps from corner to corner, across and then up or down; empty with fewer than two."""
    if len(corners) < 2:
        return ""
    (x, y), *rest = corners
    return f"M{x:g},{y:g}" + "".join(f"H{x:g}V{y:g}" for x, y in rest)


def line(points: Sequence[Place]) -> str:
    """A straight line from point to point; empty without one."""
    return "".join(("L" if index else "M") + f"{x:g},{y:g}" for index, (x, y) in enumerate(points))
