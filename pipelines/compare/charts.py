"""The charts of a comparison, as places in an SVG."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from ratchet.pipelines.compare.summary import Row
from ratchet.pipelines.pages.estimate import Estimate
from ratchet.pipelines.pages.labels import Label, place_labels
from ratchet.pipelines.pages.paths import level_whisker, steps, upright_whisker
from ratchet.pipelines.pages.scale import DURATIONS, Scale, Tick, apart
from ratchet.pipelines.pages.words import hundredths, short_duration, short_hundredths

WIDTH, HEIGHT = 880, 470
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 14, 44
PANEL_WIDTH, PANEL_HEIGHT = 220, 130
ROW_HEIGHT, NAMES_WIDTH = 22, 170


@dataclass(frozen=True)
class Mark:
    """A method in a scatter chart.

    Attributes:
        name: The method.
        colour: Number of its family's colour.
        x: Its place.
        y: Its place.
        whiskers: The intervals over seeds, as the `d` of an SVG path; empty with one seed.
        label: Where the name is written.
        title: The figures in words.
    """

    name: str
    colour: int
    x: float
    y: float
    whiskers: str
    label: Label
    title: str


@dataclass(frozen=True)
class Scatter:
    """Methods in a plane."""

    marks: tuple[Mark, ...]
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    front: str
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


@dataclass(frozen=True)
class Bar:
    """A method's accuracies on one line; None where one was not measured."""

    name: str
    colour: int
    y: float
    unnamed: float | None
    named: float | None
    probe: float | None
    title: str


@dataclass(frozen=True)
class Bars:
    """The methods' accuracies below each other."""

    bars: tuple[Bar, ...]
    columns: tuple[Tick, ...]
    height: int
    width: int = WIDTH
    left: int = NAMES_WIDTH
    right: int = WIDTH - RIGHT


@dataclass(frozen=True)
class Panel:
    """One method over the values of an axis: task orders, or base models."""

    name: str
    colour: int
    points: tuple[tuple[float, float, str], ...]
    whiskers: str
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    width: int = PANEL_WIDTH
    height: int = PANEL_HEIGHT


def accuracy_against_cost(rows: Sequence[Row], colours: Mapping[str, int]) -> Scatter | None:
    """Average accuracy over seconds on a logarithmic axis, with the front of the best at a cost."""
    found = _pairs(rows, lambda row: row.costs["seconds"], _average)
    if not found:
        return None
    horizontal = Scale.around([x.mean for _, x, _ in found], LEFT, WIDTH - RIGHT, is_log=True)
    return _scatter(found, horizontal, colours, short_duration, "time", with_front=True)


def forgetting_against_plasticity(
    rows: Sequence[Row], colours: Mapping[str, int]
) -> Scatter | None:
    """Learning accuracy over forgetting, with intervals over seeds."""
    found = _pairs(rows, lambda row: row.metrics["forgetting"], _learning)
    if not found:
        return None
    horizontal = Scale.around(_ends([x for _, x, _ in found]), LEFT, WIDTH - RIGHT, limits=(-1, 1))
    return _scatter(found, horizontal, colours, short_hundredths, "forgetting", with_front=False)


def accuracies(rows: Sequence[Row], colours: Mapping[str, int]) -> Bars | None:
    """Average accuracy without and with the task id and of probes, a line a method."""
    shown = [row for row in rows if row.metrics["average_accuracy"] is not None]
    values = [own.mean for row in shown for own in _three(row) if own is not None]
    if not values:
        return None
    scale = Scale.around(values, NAMES_WIDTH, WIDTH - RIGHT, limits=(0, 1))
    bars = tuple(_bar(row, index, scale, colours) for index, row in enumerate(shown))
    height = TOP + ROW_HEIGHT * len(bars) + BOTTOM - 14
    return Bars(bars, tuple(scale.ticks(short_hundredths, 6)), height)


def panels(
    rows: Sequence[Row], axis: Callable[[Row], str], colours: Mapping[str, int]
) -> list[Panel]:
    """A panel a method: average accuracy over an axis; none where the axis has a single value."""
    shown = [row for row in rows if row.metrics["average_accuracy"] is not None]
    values = list(dict.fromkeys(axis(row) for row in shown))
    if len(values) < 2:
        return []
    vertical = Scale.around(
        _ends([own for row in shown if (own := _average(row)) is not None]),
        PANEL_HEIGHT - 24,
        10,
        limits=(0, 1),
    )
    places = {v: 44 + (PANEL_WIDTH - 64) * i / (len(values) - 1) for i, v in enumerate(values)}
    ticks = tuple(Tick(round(x, 1), value) for value, x in places.items())
    by_name: dict[str, list[Row]] = {}
    for row in shown:
        by_name.setdefault(row.method, []).append(row)
    return [
        _panel(own, [places[axis(row)] for row in own], vertical, ticks, colours)
        for own in by_name.values()
        if len(own) > 1
    ]


def _panel(
    rows: Sequence[Row],
    xs: Sequence[float],
    vertical: Scale,
    columns: tuple[Tick, ...],
    colours: Mapping[str, int],
) -> Panel:
    points, whiskers = [], []
    for row, x in zip(rows, xs, strict=True):
        own = _average(row)
        assert own is not None, "only rows that have one are shown"
        points.append((round(x, 1), vertical.place(own.mean), _words(own)))
        whiskers.append(upright_whisker(x, own.interval, vertical))
    return Panel(
        rows[0].method,
        colours[rows[0].family],
        tuple(points),
        "".join(whiskers),
        columns,
        tuple(vertical.ticks(short_hundredths, 3)),
    )


def _scatter(
    found: Sequence[tuple[Row, Estimate, Estimate]],
    horizontal: Scale,
    colours: Mapping[str, int],
    write: Callable[[float], str],
    what: str,
    with_front: bool,
) -> Scatter:
    vertical = Scale.around(_ends([y for *_, y in found]), HEIGHT - BOTTOM, TOP, limits=(0, 1))
    places = [(horizontal.place(x.mean), vertical.place(y.mean)) for _, x, y in found]
    names = [row.method for row, *_ in found]
    labels = place_labels(places, names, WIDTH - 2, 0, HEIGHT - BOTTOM)
    marks = []
    for (row, x, y), (left, top), label in zip(found, places, labels, strict=True):
        whiskers = upright_whisker(left, y.interval, vertical)
        whiskers += "" if horizontal.is_log else level_whisker(top, x.interval, horizontal)
        title = f"{row.method}: {_words(y)}, {what} {write(x.mean)}"
        marks.append(Mark(row.method, colours[row.family], left, top, whiskers, label, title))
    return Scatter(
        tuple(marks),
        tuple(apart(horizontal.ticks(write, values=DURATIONS if horizontal.is_log else None))),
        tuple(vertical.ticks(short_hundredths)),
        _front(places) if with_front else "",
    )


def _front(places: Sequence[tuple[float, float]]) -> str:
    """Steps through the points that no other beats both in cost and in accuracy."""
    corners: list[tuple[float, float]] = []
    for x, y in sorted(places):
        if not corners or y < corners[-1][1]:
            corners.append((x, y))
    return steps(corners)


def _bar(row: Row, index: int, scale: Scale, colours: Mapping[str, int]) -> Bar:
    unnamed, named, probe = (None if own is None else scale.place(own.mean) for own in _three(row))
    y = TOP + ROW_HEIGHT * (index + 0.5)
    said = zip(("task not named", "task named", "probe"), _three(row), strict=True)
    title = ", ".join(f"{what} {_words(own)}" for what, own in said if own is not None)
    return Bar(row.method, colours[row.family], y, unnamed, named, probe, title)


def _three(row: Row) -> tuple[Estimate | None, Estimate | None, Estimate | None]:
    return (
        row.metrics["average_accuracy"],
        row.with_task_id["average_accuracy"],
        row.metrics["probe_accuracy"],
    )


def _pairs(
    rows: Sequence[Row],
    horizontal: Callable[[Row], Estimate | None],
    vertical: Callable[[Row], Estimate | None],
) -> list[tuple[Row, Estimate, Estimate]]:
    return [
        (row, x, y)
        for row in rows
        if (x := horizontal(row)) is not None and (y := vertical(row)) is not None
    ]


def _average(row: Row) -> Estimate | None:
    return row.metrics["average_accuracy"]


def _learning(row: Row) -> Estimate | None:
    return row.metrics["learning_accuracy"]


def _ends(estimates: Sequence[Estimate]) -> list[float]:
    """Both ends of each seed's values: intervals may reach beyond the chart."""
    return [end for own in estimates for end in (min(own.values), max(own.values))]


def _words(own: Estimate) -> str:
    return f"{own.said(hundredths)}%"
