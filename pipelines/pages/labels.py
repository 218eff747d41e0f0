"""Names beside the points of a chart, where they hide neither each other nor a point."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

LETTER_WIDTH, LINE_HEIGHT = 6.7, 13.0
POINT_RADIUS = 5.0
STEPS = 7

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """A name's place: the end of its base line, and whether a line leads to its point."""

    x: float
    y: float
    anchor: Literal["start", "end"]
    is_far: bool


def place_labels(
    points: Sequence[tuple[float, float]],
    names: Sequence[str],
    width: float,
    top: float,
    bottom: float,
) -> list[Label]:
    """A place for each name: right or left of its point, higher or lower until it is free.

    Args:
        points: The points, in the chart's units.
        names: Their names.
        width: Right edge of what may be written on.
        top: Upper edge.
        bottom: Lower edge.
    """
    taken: list[Box] = [_around(x, y) for x, y in points]
    found: dict[int, Label] = {}
    for index in sorted(range(len(points)), key=lambda i: points[i]):
        x, y = points[index]
        labels = list(_candidates(x, y))
        boxes = [_box(label, names[index]) for label in labels]
        fitting = [
            i
            for i, b in enumerate(boxes)
            if b[0] > 0 and b[2] < width and top < b[1] < b[3] < bottom
        ]
        best = min(fitting or [0], key=lambda i: (_overlap(boxes[i], taken), i))
        taken.append(boxes[best])
        found[index] = labels[best]
    return [found[index] for index in range(len(points))]


def _candidates(x: float, y: float) -> Iterator[Label]:
    """Places from the nearest to the farthest."""
    for step in range(STEPS):
        for shift in (0.0,) if step == 0 else (-step * LINE_HEIGHT, step * LINE_HEIGHT):
            away = 9.0 + 2.0 * step
            yield Label(x + away, y + 3.5 + shift, "start", step > 1)
            yield Label(x - away, y + 3.5 + shift, "end", step > 1)


def _box(label: Label, name: str) -> Box:
    width = LETTER_WIDTH * len(name)
    left = label.x if label.anchor == "start" else label.x - width
    return left, label.y - LINE_HEIGHT + 3.0, left + width, label.y + 2.0


def _around(x: float, y: float) -> Box:
    return x - POINT_RADIUS, y - POINT_RADIUS, x + POINT_RADIUS, y + POINT_RADIUS


def _overlap(box: Box, others: Sequence[Box]) -> float:
    """Area that a box shares with others."""
    return sum(
        max(0.0, min(box[2], o[2]) - max(box[0], o[0]))
        * max(0.0, min(box[3], o[3]) - max(box[1], o[1]))
        for o in others
    )
