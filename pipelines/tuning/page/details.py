"""A single trial as the page shows it when it is picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

from ratchet.pipelines.pages.search import SearchRow, search_rows
from ratchet.pipelines.pages.words import (
    NONE,
    average,
    hundredths,
    percent,
    perplexity,
    points,
    whole_percent,
)
from ratchet.pipelines.report.scores import MEANINGS, Cell, HeatRow
from ratchet.pipelines.tuning.noise import standing
from ratchet.pipelines.tuning.page.words import (
    command,
    ending,
    said,
    setting,
    short_names,
    yaml_text,
)
from ratchet.pipelines.tuning.study import Study
from ratchet.pipelines.tuning.trial import SeedResult, Trial

COUNTS = ("forgetting_events",)
GAINS = ("backward_transfer", "forward_transfer")
LOSSES = ("forgetting", "forgetting_clamped", "forgetting_from_learned", "intransigence")
FIRST = ("average_accuracy", "learning_accuracy", "forgetting")


@dataclass(frozen=True)
class MetricLine:
    """A metric in words, on validation and on test rows."""

    name: str
    meaning: str
    validation: str
    test: str


@dataclass(frozen=True)
class Detail:
    """A trial.

    Attributes:
        trial: The trial.
        tags: `front`, `chosen`, `knee`, `stopped`, `failed`: what it is.
        standing: Its place relative to the front, or why it ended, as a sentence.
        share: Its share of resamples on the front, in words; empty where unknown.
        settings: Fields, their short names and values, in the order of the spec.
        objectives: What it measured, by objective, in words; of the whole stream only.
        average: Its average accuracy, in words; of the whole stream only.
        metrics: What it measured.
        num_seeds: Seeds behind the metrics.
        decided: What each task was taught with in its first seed, where that was searched task by
            task.
        heat: The accuracy matrix, a mean over seeds; empty where there is none.
        tasks: Names of the matrix's columns.
        command: What runs an update with these settings.
    """

    trial: Trial
    tags: tuple[str, ...]
    standing: str
    share: str
    settings: tuple[tuple[str, str, str, str], ...]
    objectives: tuple[str, ...]
    average: str
    metrics: tuple[MetricLine, ...]
    num_seeds: int
    decided: tuple[SearchRow, ...]
    heat: tuple[HeatRow, ...]
    tasks: tuple[str, ...]
    command: str


def details(study: Study) -> list[Detail]:
    """Every trial: the front first, then the other finished ones, then the rest.

    The front is in its own order; others with the higher average accuracy first.
    """
    order = {own.trial.number: place for place, own in enumerate(study.front)}
    finished = {"done": 0, "stopped": 1, "failed": 2}

    def key(trial: Trial) -> tuple[float, ...]:
        average = trial.mean("average_accuracy")
        place = order.get(trial.number, len(order))
        return finished[trial.status], place, -1.0 if average is None else -average, trial.number

    return [_detail(study, trial, order) for trial in sorted(study.trials, key=key)]


def _detail(study: Study, trial: Trial, order: dict[int, int]) -> Detail:
    names = short_names(list(trial.settings))
    share = (study.noise.on_front or {}).get(trial.number)
    return Detail(
        trial=trial,
        tags=_tags(study, trial, order),
        standing=_standing(trial, share, trial.number in order),
        share="" if share is None else whole_percent(share),
        settings=tuple(
            (field, names[field], setting(value), yaml_text(value))
            for field, value in trial.settings.items()
        ),
        objectives=tuple(
            said(trial, name) if trial.status == "done" else NONE for name in study.tune.objectives
        ),
        average=percent(trial.mean("average_accuracy")) if trial.status == "done" else NONE,
        metrics=_metrics(trial.seeds),
        num_seeds=len(trial.seeds),
        decided=tuple(search_rows(trial.seeds[0].search)) if trial.seeds else (),
        heat=_heat(trial),
        tasks=trial.seeds[0].tasks if trial.seeds else (),
        command=command(study.spec, trial.settings, study.changes, study.verb),
    )


def _tags(study: Study, trial: Trial, order: dict[int, int]) -> tuple[str, ...]:
    chosen = study.chosen is not None and study.chosen.trial.number == trial.number
    knee = study.knee is not None and study.knee.number == trial.number
    known = {
        "chosen": chosen,
        "knee": knee,
        "front": trial.number in order,
        trial.status: trial.status != "done",
    }
    return tuple(tag for tag, is_so in known.items() if is_so)


def _standing(trial: Trial, share: float | None, is_member: bool) -> str:
    said = ending(trial) if trial.status != "done" else standing(share, is_member)
    return f"{said[:1].upper()}{said[1:]}."


def _metrics(seeds: Sequence[SeedResult]) -> tuple[MetricLine, ...]:
    if not seeds:
        return ()
    names = [*FIRST, *sorted(set(seeds[0].metrics) - set(FIRST))]
    lines = []
    for name in names:
        chosen_by, reported = (
            _mean([own.get(name) for own in side])
            for side in ([one.metrics for one in seeds], [one.test_metrics for one in seeds])
        )
        if chosen_by is not None or reported is not None:
            words = name.replace("_", " ").capitalize()
            lines.append(
                MetricLine(
                    words,
                    MEANINGS.get(name, ""),
                    _written(name, chosen_by),
                    _written(name, reported),
                )
            )
    return tuple(lines)


def _written(name: str, value: float | None) -> str:
    if value is None:
        return NONE
    if name in LOSSES:
        return hundredths(value)
    if name in COUNTS:
        return average(value)
    if name.startswith("retention") and value > 1:  # of a language model, where it is no share
        return perplexity(value)
    return points(value) if name in GAINS else percent(value)


def _heat(trial: Trial) -> tuple[HeatRow, ...]:
    """The mean over seeds, a stage a task: joint training has no trade-off to study."""
    if not trial.seeds or not trial.seeds[0].accuracy_matrix:
        return ()
    tasks, num_past = trial.seeds[0].tasks, trial.seeds[0].num_past
    first = 1 if num_past else 0  # the champion's row
    num_rows = min(len(own.accuracy_matrix) for own in trial.seeds)
    rows = []
    for row in range(num_rows):
        values = [
            _mean(column)
            for column in zip(*(own.accuracy_matrix[row] for own in trial.seeds), strict=True)
        ]
        stage = row - first
        cells = tuple(
            Cell(value, _kind(stage, task - num_past)) for task, value in enumerate(values)
        )
        after = "the champion" if stage < 0 else tasks[num_past + stage]
        rows.append(HeatRow(stage + 1, after, cells))
    return tuple(rows)


def _kind(stage: int, task: int) -> Literal["before", "learned", "after"]:
    """What a cell is of, both counted from the first new task on."""
    if stage == task and task >= 0:
        return "learned"
    return "before" if stage < task else "after"


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
