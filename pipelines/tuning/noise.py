"""What is on the front only by noise: the front again and again, over drawn seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ratchet.pipelines.pages.estimate import Estimate
from ratchet.pipelines.pages.words import whole_percent
from ratchet.pipelines.tuning.front import placed
from ratchet.pipelines.tuning.trial import SeedResult, Trial

NUM_RESAMPLES = 2000
LIKELY = 0.5


@dataclass(frozen=True)
class Noise:
    """How sure a front is.

    Attributes:
        on_front: By trial, in how many of the resamples it was on the front, as a share; None
            where noise is unknown.
        intervals: By trial and objective, the 95 % interval of the mean over seeds (Student's t).
            Unlike the ends of a resampling, it may reach beyond the few seeds that were run.
        num_resamples: How often seeds were drawn; 0 where noise is unknown.
        summary: What is known, in a sentence or two.
    """

    on_front: Mapping[int, float] | None
    intervals: Mapping[int, Mapping[str, tuple[float, float] | None]]
    num_resamples: int
    summary: str


def noise(
    trials: Sequence[Trial],
    objectives: Sequence[str],
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Noise:
    """The probability of each finished trial to be on the front, were its seeds drawn again.

    A bootstrap over seeds. Trials that ran the same seeds get the same draw, because a seed decides
    the order of the rows for all of them alike: their differences are then surer than their values.
    Of n seeds, n - 1 are drawn with replacement: the mean of n drawn would spread by only
    (n - 1) / n of the variance that the mean of n seeds has (Rao & Wu, "Resampling inference with
    complex survey data", 1988). With two seeds a draw is one of the two, so the answer is coarse.
    Does not know how the validation rows themselves were drawn: they are the same for all seeds.

    Args:
        trials: All trials of a study; only finished ones compete.
        objectives: The names of the objectives.
        num_resamples: How often to draw.
        seed: Where the draws start: the same seed gives the same answer.
    """
    found = [own.trial for own in placed(trials, objectives)]
    runs = {trial.number: _measured(trial, objectives) for trial in found}
    intervals = {trial.number: _intervals(runs[trial.number], objectives) for trial in found}
    fewest = min((len(own) for own in runs.values()), default=0)
    if fewest < 2:
        return Noise(None, intervals, 0, _unknown(found, fewest))
    points = _resampled(runs, objectives, num_resamples, np.random.default_rng(seed))
    shares = _on_front(points).mean(axis=0)
    on_front = {number: float(share) for number, share in zip(runs, shares, strict=True)}
    return Noise(on_front, intervals, num_resamples, _known(runs, num_resamples))


def standing(share: float | None, is_member: bool) -> str:
    """A trial's place relative to the front, in words.

    Args:
        share: Its share of resamples on the front; None where noise is unknown.
        is_member: Whether it is on the measured front.
    """
    where = "on the front" if is_member else "beaten by another trial"
    if share is None:
        return f"{where}; how surely is not known"
    resamples = f"in {whole_percent(share)} of resamples"
    if not is_member:
        return f"{where}, but on the front {resamples}" if share else where
    said = f"{where}, and {resamples}"
    return f"{said}: it may be there by noise" if share < LIKELY else said


def by_noise(noise: Noise, members: Sequence[Trial]) -> list[int]:
    """Numbers of the front's trials that are on it in fewer than half of the resamples."""
    if noise.on_front is None:
        return []
    return [trial.number for trial in members if noise.on_front[trial.number] < LIKELY]


def _measured(trial: Trial, objectives: Sequence[str]) -> list[tuple[int, tuple[float, ...]]]:
    """The seeds that have every objective, in order, each with its objectives."""
    found = []
    for result in trial.seeds:
        values = _objectives_of(trial, result, objectives)
        if None not in values:
            found.append((result.seed, tuple(value for value in values if value is not None)))
    return sorted(found)


def _objectives_of(
    trial: Trial, result: SeedResult, objectives: Sequence[str]
) -> list[float | None]:
    alone = Trial(trial.number, trial.settings, trial.status, (result,))
    return [alone.objective(name) for name in objectives]


def _intervals(
    runs: Sequence[tuple[int, tuple[float, ...]]], objectives: Sequence[str]
) -> dict[str, tuple[float, float] | None]:
    return {name: _interval([own[axis] for _, own in runs]) for axis, name in enumerate(objectives)}


def _interval(values: Sequence[float]) -> tuple[float, float] | None:
    estimate = Estimate.of(values)
    if estimate is None or estimate.half_width is None:
        return None
    return estimate.mean - estimate.half_width, estimate.mean + estimate.half_width


def _resampled(
    runs: Mapping[int, Sequence[tuple[int, tuple[float, ...]]]],
    objectives: Sequence[str],
    num_resamples: int,
    generator: np.random.Generator,
) -> np.ndarray:
    """Means over drawn seeds, `[resamples, trials, objectives]`."""
    draws: dict[tuple[int, ...], np.ndarray] = {}
    points = np.empty((num_resamples, len(runs), len(objectives)))
    for index, own in enumerate(runs.values()):
        seeds = tuple(seed for seed, _ in own)
        if seeds not in draws:
            shape = (num_resamples, len(seeds) - 1)
            draws[seeds] = generator.integers(len(seeds), size=shape)
        points[:, index] = np.array([values for _, values in own])[draws[seeds]].mean(axis=1)
    return points


def _on_front(points: np.ndarray) -> np.ndarray:
    """Whether no other trial dominates, `[resamples, trials]`, one trial at a time for memory."""
    columns = [np.ascontiguousarray(points[..., axis]) for axis in range(points.shape[-1])]
    members = np.empty(points.shape[:2], dtype=bool)
    for index in range(points.shape[1]):
        nowhere_worse = np.ones(points.shape[:2], dtype=bool)
        somewhere_better = np.zeros(points.shape[:2], dtype=bool)
        for column in columns:
            own = column[:, index : index + 1]
            nowhere_worse &= column >= own
            somewhere_better |= column > own
        members[:, index] = ~(nowhere_worse & somewhere_better).any(axis=-1)
    return members


def _unknown(found: Sequence[Trial], fewest: int) -> str:
    if not found:
        return "No trial finished, so there is no front."
    alone = sum(len(trial.seeds) < 2 for trial in found)
    if fewest == 1 and alone == len(found):
        return (
            "Each trial ran with one seed, so how much of the front is noise is not known: "
            "neighbours on it may change places with another seed. Give tune.num_seeds: 3 to know."
        )
    return (
        f"{alone or 'Some'} of {len(found)} finished trials have fewer than two seeds with every "
        "objective, so how much of the front is noise is not known."
    )


def _known(runs: Mapping[int, Sequence[tuple[int, tuple[float, ...]]]], num_resamples: int) -> str:
    sets = {tuple(seed for seed, _ in own) for own in runs.values()}
    counts = sorted({len(seeds) for seeds in sets})
    seeds = f"{counts[0]} to {counts[-1]}" if len(counts) > 1 else str(counts[0])
    paired = "the same draw for all trials" if len(sets) == 1 else "one draw for each set of seeds"
    said = (
        f"Each trial ran with {seeds} seeds. Drawing them again {num_resamples} times, {paired}, "
        "says how often a trial is on the front."
    )
    return said + (" With two seeds that is coarse." if counts[0] == 2 else "")
