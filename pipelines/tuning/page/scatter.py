"""The front as a picture to click on: places in an SVG."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ratchet.pipelines.pages.paths import level_whisker, steps, upright_whisker
from ratchet.pipelines.pages.scale import DURATIONS, Scale, Tick, apart
from ratchet.pipelines.tuning.front import front, placed
from ratchet.pipelines.tuning.noise import standing
from ratchet.pipelines.tuning.page.words import OBJECTIVE_WORDS, measure_of, said
from ratchet.pipelines.tuning.study import Study
from ratchet.pipelines.tuning.trial import OBJECTIVES, Trial

WIDTH, HEIGHT = 640, 480
LEFT, RIGHT, TOP, BOTTOM = 46, 16, 14, 44
SMALLEST, LARGEST, PLAIN = 3.5, 10.0, 5.0
LOG_RATIO = 3.0


@dataclass(frozen=True)
class Dot:
    """A finished trial in the plane.

    Attributes:
        number: The trial.
        x: Its place.
        y: Its place.
        radius: By its cost, where cost is a third objective.
        is_member: Whether it is on the front.
        is_chosen: Whether it is the one that is used.
        is_knee: Whether it is the front's knee.
        whiskers: The intervals over seeds, as the `d` of an SVG path; empty with one seed.
        is_named: Whether its number is written up and left of it, where nothing beats it.
        title: Its figures in words.
    """

    number: int
    x: float
    y: float
    radius: float
    is_member: bool
    is_chosen: bool
    is_knee: bool
    whiskers: str
    is_named: bool
    title: str


@dataclass(frozen=True)
class Scatter:
    """The finished trials in the plane of two objectives.

    Attributes:
        dots: From left to right.
        columns: Ticks below.
        rows: Ticks to the left.
        front: The front's steps, as the `d` of an SVG path; empty with fewer than two.
        across: What lies on the axis below; left is better.
        upward: What lies on the axis to the left; up is better.
        sizes: What the size of a dot means: a radius and its words; empty where it means nothing.
    """

    dots: tuple[Dot, ...]
    columns: tuple[Tick, ...]
    rows: tuple[Tick, ...]
    front: str
    across: str
    upward: str
    sizes: tuple[tuple[float, str], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM


def scatter(study: Study) -> Scatter | None:
    """The finished trials of a study; None where there are none."""
    upward, across = axes(study.tune.objectives)
    found = placed(study.trials, tuple(dict.fromkeys((*study.tune.objectives, upward, across))))
    if not found:
        return None
    trials = sorted((own.trial for own in found), key=lambda trial: _measure(trial, across))
    horizontal = _horizontal([_measure(trial, across) for trial in trials], across)
    vertical = Scale.around([_value(trial, upward) for trial in trials], HEIGHT - BOTTOM, TOP)
    third = next((own for own in study.tune.objectives if own not in (upward, across)), None)
    values = DURATIONS if horizontal.is_log else None
    return Scatter(
        dots=_dots(study, trials, (horizontal, vertical), (across, upward), third),
        columns=tuple(apart(horizontal.ticks(OBJECTIVE_WORDS[across].tick, values=values))),
        rows=tuple(vertical.ticks(lambda own: OBJECTIVE_WORDS[upward].tick(_turned(own, upward)))),
        front=_steps(study, trials, (horizontal, vertical), (across, upward)),
        across=OBJECTIVE_WORDS[across].measure,
        upward=OBJECTIVE_WORDS[upward].measure,
        sizes=_sizes(trials, third),
    )


def axes(objectives: Sequence[str]) -> tuple[str, str]:
    """What goes up and what goes across: the objectives first, in their usual order."""
    ordered = sorted(OBJECTIVES, key=lambda name: name not in objectives)
    return ordered[0], ordered[1]


def _dots(
    study: Study,
    trials: Sequence[Trial],
    scales: tuple[Scale, Scale],
    names: tuple[str, str],
    third: str | None,
) -> tuple[Dot, ...]:
    places = [_place(trial, scales, names) for trial in trials]
    members = [own.trial.number for own in study.front]
    chosen = None if study.chosen is None else study.chosen.trial.number
    knee = None if study.knee is None else study.knee.number
    named = _named(
        [chosen, knee, *members], dict(zip([own.number for own in trials], places, strict=True))
    )
    return tuple(
        Dot(
            number=trial.number,
            x=x,
            y=y,
            radius=_radius(trial, trials, third),
            is_member=trial.number in members,
            is_chosen=trial.number == chosen,
            is_knee=trial.number == knee,
            whiskers=_whiskers(study, trial, (x, y), scales, names),
            is_named=trial.number in named,
            title=_title(study, trial, trial.number in members),
        )
        for trial, (x, y) in zip(trials, places, strict=True)
    )


def _named(wanted: Sequence[int | None], places: Mapping[int, tuple[float, float]]) -> list[int]:
    """The numbers that can be written without covering one that came before."""
    named: list[int] = []
    for number in wanted:
        if number is None or number not in places:
            continue
        x, y = places[number]
        near = (abs(x - places[own][0]) < 18 and abs(y - places[own][1]) < 13 for own in named)
        if not any(near):
            named.append(number)
    return named


def _title(study: Study, trial: Trial, is_member: bool) -> str:
    measured = ", ".join(
        f"{OBJECTIVES[name][0].replace('_', ' ')} {said(trial, name)}"
        for name in study.tune.objectives
    )
    share = None if study.noise.on_front is None else study.noise.on_front[trial.number]
    return f"Trial {trial.number}: {measured}; {standing(share, is_member)}"


def _whiskers(
    study: Study,
    trial: Trial,
    place: tuple[float, float],
    scales: tuple[Scale, Scale],
    names: tuple[str, str],
) -> str:
    intervals = study.noise.intervals.get(trial.number, {})
    (x, y), (horizontal, vertical), (across, upward) = place, scales, names
    level, upright = intervals.get(across), intervals.get(upward)
    measured = level and sorted(measure_of(across, end) for end in level)
    return level_whisker(y, measured, horizontal) + upright_whisker(
        x, upright and sorted(upright, reverse=True), vertical
    )


def _steps(
    study: Study,
    trials: Sequence[Trial],
    scales: tuple[Scale, Scale],
    names: tuple[str, str],
) -> str:
    """Steps through what is best in these two objectives, whatever the third says."""
    if not set(names) <= set(study.tune.objectives):
        return ""
    return steps(sorted({_place(own.trial, scales, names) for own in front(trials, names)}))


def _horizontal(values: Sequence[float], across: str) -> Scale:
    is_log = across == "cost" and min(values) > 0 and max(values) / min(values) > LOG_RATIO
    return Scale.around(values, LEFT, WIDTH - RIGHT, is_log=is_log)


def _place(
    trial: Trial, scales: tuple[Scale, Scale], names: tuple[str, str]
) -> tuple[float, float]:
    return scales[0].place(_measure(trial, names[0])), scales[1].place(_value(trial, names[1]))


def _value(trial: Trial, objective: str) -> float:
    value = trial.objective(objective)
    assert value is not None, "only trials that have every objective are placed"
    return value


def _measure(trial: Trial, objective: str) -> float:
    return measure_of(objective, _value(trial, objective))


def _turned(value: float, objective: str) -> float:
    """The measure at a tick; zero has no sign."""
    return measure_of(objective, value) + 0.0


def _radius(trial: Trial, trials: Sequence[Trial], third: str | None) -> float:
    if third is None:
        return PLAIN
    values = [_measure(own, third) for own in trials]
    low, high = min(values), max(values)
    if low == high:
        return PLAIN
    share = (_measure(trial, third) - low) / (high - low)
    return round(SMALLEST + (LARGEST - SMALLEST) * share, 1)


def _sizes(trials: Sequence[Trial], third: str | None) -> tuple[tuple[float, str], ...]:
    if third is None:
        return ()
    ends = sorted(trials, key=lambda trial: _measure(trial, third))
    return tuple((_radius(own, trials, third), said(own, third)) for own in (ends[0], ends[-1]))
