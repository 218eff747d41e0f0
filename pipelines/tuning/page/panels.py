"""A small chart for each searched parameter and objective."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ratchet.pipelines.pages.scale import DURATIONS, Scale, Tick
from ratchet.pipelines.spec.tune import AnyRange, ChoiceRange, IntRange, LogRange
from ratchet.pipelines.tuning.effects import Effect
from ratchet.pipelines.tuning.front import Placed, placed
from ratchet.pipelines.tuning.page.words import (
    OBJECTIVE_WORDS,
    measure_of,
    said,
    setting,
    short_names,
)
from ratchet.pipelines.tuning.study import Study

WIDTH, HEIGHT = 240, 150
LEFT, RIGHT, TOP, BOTTOM = 34, 10, 10, 24
NUM_LETTERS = 12
LETTER_WIDTH = 6


@dataclass(frozen=True)
class PanelDot:
    """A trial: its place, whether it is on the front, and its figures."""

    number: int
    x: float
    y: float
    is_member: bool
    title: str


@dataclass(frozen=True)
class Panel:
    """An objective over a parameter.

    Attributes:
        name: The parameter, shortened.
        parameter: The whole field.
        measure: What goes up: the objective's measure, the better the higher.
        claim: The effect, in words.
        dots: The finished trials.
        means: Places of the mean by value of a choice, as the `d` of an SVG path.
        columns: Ticks below.
        rows: Ticks to the left.
    """

    name: str
    parameter: str
    measure: str
    claim: str
    dots: tuple[PanelDot, ...]
    means: str
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT


def panels(study: Study) -> list[Panel]:
    """One for each parameter and objective; none where no trial finished or each task decided."""
    found = placed(study.trials, study.tune.objectives)
    if not found or study.tune.strategy == "stability_decay":
        return []
    members = {own.trial.number for own in study.front}
    names = short_names(list(study.tune.parameters))
    shown = []
    for effect in study.effects:
        known = [own for own in found if effect.parameter in own.trial.settings]
        if known:
            shown.append(_panel(study, effect, known, members, names[effect.parameter]))
    return shown


def _panel(
    study: Study, effect: Effect, found: Sequence[Placed], members: set[int], name: str
) -> Panel:
    objective = effect.objective
    axis = study.tune.objectives.index(objective)
    vertical = Scale.around([own.point[axis] for own in found], HEIGHT - BOTTOM, TOP)
    settings = [own.trial.settings[effect.parameter] for own in found]
    rows = vertical.ticks(
        lambda own: OBJECTIVE_WORDS[objective].tick(measure_of(objective, own) + 0.0),
        3,
        steps=DURATIONS if objective == "cost" else (),
    )
    left = max(LEFT, 6 + LETTER_WIDTH * max((len(tick.label) for tick in rows), default=0))
    places, columns = _across(settings, study.tune.parameters[effect.parameter], left)
    dots = tuple(
        PanelDot(
            own.trial.number,
            x,
            vertical.place(own.point[axis]),
            own.trial.number in members,
            f"Trial {own.trial.number}: {name} {setting(value)}, {said(own.trial, objective)}",
        )
        for own, value, x in zip(found, settings, places, strict=True)
    )
    return Panel(
        name=name,
        parameter=effect.parameter,
        measure=OBJECTIVE_WORDS[objective].measure,
        claim=effect.claim,
        dots=dots,
        means=_means(effect, settings, places, vertical),
        columns=columns,
        rows=tuple(rows),
        left=left,
    )


def _across(
    settings: Sequence[Any], searched: AnyRange, left: int
) -> tuple[list[float], tuple[Tick, ...]]:
    """Places of settings, and the axis: of the whole range, tried or not."""
    if isinstance(searched, ChoiceRange):
        return _apart(settings, searched, left)
    low, high = _ends(searched)
    low, high = min(low, *settings), max(high, *settings)
    scale = Scale(low, high, left + 8, WIDTH - RIGHT - 8, is_log=isinstance(searched, LogRange))
    values = _powers(low, high) if scale.is_log else None
    if isinstance(searched, IntRange) and high - low < 6:
        values = range(int(low), int(high) + 1)
    ticks = scale.ticks(_tick, 4, values)
    return [scale.place(float(value)) for value in settings], tuple(ticks)


def _apart(
    settings: Sequence[Any], searched: ChoiceRange, left: int
) -> tuple[list[float], tuple[Tick, ...]]:
    values = [setting(value) for value in searched.choice]
    capacity = (WIDTH - RIGHT - left) / len(values)
    at = {value: round(left + capacity * (index + 0.5), 1) for index, value in enumerate(values)}
    ticks = tuple(Tick(x, _cut(value, len(values))) for value, x in at.items())
    return [at[setting(value)] for value in settings], ticks


def _cut(text: str, number: int) -> str:
    letters = max(3, NUM_LETTERS * 3 // number)
    return text if len(text) <= letters else f"{text[: letters - 1]}…"


def _ends(searched: AnyRange) -> tuple[float, float]:
    if isinstance(searched, LogRange):
        return searched.log
    assert not isinstance(searched, ChoiceRange), "a choice has no ends"
    return searched.int if isinstance(searched, IntRange) else searched.uniform


def _tick(value: float) -> str:
    """A number in about four letters."""
    text = f"{value:g}"
    if len(text) <= 4:
        return text
    digits, _, power = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)}" if abs(int(power)) > 2 else f"{value:.3g}"


def _powers(low: float, high: float) -> list[float]:
    """Powers of ten in a range, at most about five; in a narrow one also 2 and 5 times these."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    step = max(1, round((last - first) / 5))
    factors = (1, 2, 5) if high / low < 100 else (1,)
    return [factor * 10.0**power for power in range(first, last + 1, step) for factor in factors]


def _means(
    effect: Effect, settings: Sequence[Any], places: Sequence[float], vertical: Scale
) -> str:
    at = {setting(value): x for value, x in zip(settings, places, strict=True)}
    return "".join(
        f"M{at[setting(own.value)] - 14:g},{vertical.place(own.mean):g}h28"
        for own in effect.by_value
    )
