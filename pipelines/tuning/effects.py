"""What each searched parameter does to each objective, as far as the trials can say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

import numpy as np

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.spec.tune import AnyRange, ChoiceRange
from ratchet.pipelines.tuning.front import Placed, placed
from ratchet.pipelines.tuning.trial import Trial

MIN_TRIALS = 6
NUM_ORDERS = 2000
CHANCE_LIMIT = 0.05


@dataclass(frozen=True)
class ValueMean:
    """One value of a choice: its trials, and the mean of their objective."""

    value: Any
    num_trials: int
    mean: float


@dataclass(frozen=True)
class Effect:
    """What one parameter does to one objective.

    Attributes:
        parameter: The field.
        objective: The objective, to be made large.
        num_trials: Finished trials behind it.
        rank_correlation: Spearman's, -1 to 1, of a number; None for a choice, with fewer than six
            trials, and where either side is the same in all of them.
        by_value: For a choice, the mean by value; empty with fewer than six trials.
        chance: The share of 2000 random orders of the trials that show at least as strong an
            effect; None where nothing is said. A search looks where it is good, so its trials are
            not independent and this is a yardstick, no test.
        claim: The effect in a few words.
    """

    parameter: str
    objective: str
    num_trials: int
    rank_correlation: float | None
    by_value: tuple[ValueMean, ...]
    chance: float | None
    claim: str

    def as_dict(self) -> JsonObject:
        """Plain JSON values."""
        return {**asdict(self), "by_value": [asdict(own) for own in self.by_value]}


def effects(
    trials: Sequence[Trial],
    parameters: Mapping[str, AnyRange],
    objectives: Sequence[str],
    seed: int = 0,
) -> list[Effect]:
    """The effect of each parameter on each objective over the finished trials.

    Stopped trials are not looked at: what early stopping keeps is better than the rest, so with it
    effects are of the trials that were worth going on with.

    Args:
        trials: All trials of a study.
        parameters: The searched fields and their ranges.
        objectives: The names of the objectives.
        seed: Where the random orders start.
    """
    found = placed(trials, objectives)
    generator = np.random.default_rng(seed)
    return [
        _effect(found, parameter, isinstance(own, ChoiceRange), axis, objective, generator)
        for parameter, own in parameters.items()
        for axis, objective in enumerate(objectives)
    ]


def ranks(values: Sequence[float]) -> np.ndarray:
    """Ranks from 1; equal values share the mean of their ranks."""
    array = np.asarray(values, dtype=np.float64)
    _, inverse, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Spearman's rank correlation, ties and all; None where either side is constant."""
    return _correlation(ranks(one), ranks(other))


def _correlation(one: np.ndarray, other: np.ndarray) -> float | None:
    one, other = one - one.mean(), other - other.mean()
    size = math.sqrt(float(one @ one) * float(other @ other))
    return None if size == 0 else float(np.clip(one @ other / size, -1.0, 1.0))


def _effect(
    found: Sequence[Placed],
    parameter: str,
    is_choice: bool,
    axis: int,
    objective: str,
    generator: np.random.Generator,
) -> Effect:
    known = [own for own in found if parameter in own.trial.settings]
    settings: list[Any] = [own.trial.settings[parameter] for own in known]
    measured = [own.point[axis] for own in known]
    if len(known) < MIN_TRIALS:
        claim = f"{len(known)} finished trials are too few to say"
        return Effect(parameter, objective, len(known), None, (), None, claim)
    if is_choice:
        means = _by_value(settings, measured)
        chance = _chance_of_choice(settings, measured, generator) if len(means) > 1 else None
        claim = _claim_of_choice(means, chance)
        return Effect(parameter, objective, len(known), None, means, chance, claim)
    found_correlation = rank_correlation(settings, measured)
    chance = None
    if found_correlation is not None:
        chance = _chance_of_number(settings, measured, found_correlation, generator)
    claim = _claim_of_number(found_correlation, chance)
    return Effect(parameter, objective, len(known), found_correlation, (), chance, claim)


def _by_value(settings: Sequence[Any], measured: Sequence[float]) -> tuple[ValueMean, ...]:
    groups: dict[str, tuple[Any, list[float]]] = {}
    for value, own in zip(settings, measured, strict=True):
        groups.setdefault(_key(value), (value, []))[1].append(own)
    return tuple(
        ValueMean(value, len(own), fmean(own)) for _, (value, own) in sorted(groups.items())
    )


def _chance_of_number(
    settings: Sequence[float],
    measured: Sequence[float],
    strength: float,
    generator: np.random.Generator,
) -> float:
    one, other = ranks(settings), ranks(measured)
    orders = generator.permuted(np.tile(other, (NUM_ORDERS, 1)), axis=1)
    one, orders = one - one.mean(), orders - other.mean()
    size = math.sqrt(float(one @ one) * float(np.square(other - other.mean()).sum()))
    return float((np.abs(orders @ one / size) >= abs(strength) - 1e-9).mean())


def _chance_of_choice(
    settings: Sequence[Any], measured: Sequence[float], generator: np.random.Generator
) -> float:
    """By the spread of the values' means: the sum of n times the squared distance from the mean."""
    keys = np.unique([_key(value) for value in settings], return_inverse=True)[1]
    member = np.eye(keys.max() + 1)[keys]
    values = np.asarray(measured) - fmean(measured)

    def spread(orders: np.ndarray) -> np.ndarray:
        return np.square(orders @ member / np.sqrt(member.sum(axis=0))).sum(axis=1)

    orders = generator.permuted(np.tile(values, (NUM_ORDERS, 1)), axis=1)
    return float((spread(orders) >= spread(values[None]) - 1e-12).mean())


def _claim_of_number(strength: float | None, chance: float | None) -> str:
    if strength is None or chance is None:
        return "no effect: all the same"
    if chance > CHANCE_LIMIT:
        return f"no clear effect: rank correlation {_signed(strength)}"
    which = "better" if strength > 0 else "worse"
    return f"gets {which} as it grows: rank correlation {_signed(strength)}"


def _claim_of_choice(means: Sequence[ValueMean], chance: float | None) -> str:
    if chance is None:
        return "no effect: one value was tried"
    best = max(means, key=lambda own: own.mean)
    if chance > CHANCE_LIMIT:
        return "no clear effect"
    return f"best with {_key(best.value)}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _key(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
