"""Which settings to try next: a sampler of Optuna over the points of a space, told of results."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from ratchet.pipelines.spec.tune import AnyRange, ChoiceRange, IntRange, LogRange, TuneSpec
from ratchet.pipelines.tuning.search.decay import decay_settings
from ratchet.pipelines.tuning.search.grid import Grid
from ratchet.pipelines.tuning.search.space import extremes, holds, num_points, place_of, points_of
from ratchet.pipelines.tuning.trial import Settings, Trial

NUM_TRIALS = 24
"""The budget where none is given and the algorithm knows no end of its own."""

NUM_RANDOM_TRIALS = 8
"""Trials drawn blindly before the estimator of `tpe` begins to choose."""

NUM_RANDOM_FOR_MODEL = 6
"""The same for `gp`, whose model of each objective says something from fewer trials."""

NUM_CHOSEN_DRAWS = 3
"""Draws of the algorithm that may meet settings already tried; then it is drawn blindly."""

NUM_REDRAWS = 50
"""Draws in all that may do so before the space counts as exhausted."""

MAX_WHOLE_NUMBERS = 10_000
"""A range of more whole numbers is drawn from as a continuous one, and rounded: `gp` would list
them all."""


class Sampler:
    """Chooses settings, one trial after another.

    Its knowledge is the trials that it was told of and nothing else: a sampler made again and told
    the same chooses from the same knowledge, so a study needs no other memory than its trials.

    Args:
        tune: What is searched.
        fast: Fields that a grid varies fastest.
        seed_settings: Settings to try first, say those that were best in an earlier study.

    Attributes:
        num_asked: Trials that it was asked for, which is the number of the next one.
        size: Trials that it can give at most: the budget, or the points of the grid.
    """

    def __init__(
        self,
        tune: TuneSpec,
        fast: Sequence[str] = (),
        seed_settings: Sequence[Settings] = (),
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns of what could be faster
        self.tune = tune
        self._first = [dict(own) for own in seed_settings if holds(tune.parameters, own)]
        self.size, self._listed = _listed(tune, fast)
        self._distributions = {name: _distribution(own) for name, own in tune.parameters.items()}
        self.num_asked = 0
        self._seen: set[str] = set()
        self._open: dict[int, optuna.Trial] = {}
        self._study = self._fresh_study(tune.algorithm, tune.seed)
        self._blind = self._fresh_study("random", tune.seed)

    def know(self, trials: Sequence[Trial], begun: Mapping[int, Settings]) -> None:
        """Learn what ended before this process began; call it once, before anything is asked.

        Args:
            trials: The trials that have ended.
            begun: Settings of those that have begun and not ended, by number.
        """
        numbers = [*begun, *(trial.number for trial in trials)]
        self.num_asked = 1 + max(numbers, default=-1)
        self._seen |= {_key(settings) for settings in begun.values()}
        # Else the draws after an interruption would repeat those before it.
        seed = self.tune.seed + 1009 * len(trials)
        self._study = self._fresh_study(self.tune.algorithm, seed)
        self._blind = self._fresh_study("random", seed)
        for trial in trials:
            self._seen.add(_key(trial.settings))
            self._add(trial)

    def ask(self) -> Settings | None:
        """The settings of the next trial, or None when there is nothing left to try.

        Nothing is tried twice; a space of few points is exhausted when draws find no other.
        """
        number = self.num_asked
        if number >= self.size:
            return None
        self.num_asked += 1
        if self._listed is not None:
            left = (own for own in self._listed if _key(own) not in self._seen)
            return next(left, None)
        if number < len(self._first):
            return self._seen_now(self._first[number])
        for draw in range(NUM_REDRAWS):
            study = self._study if draw < NUM_CHOSEN_DRAWS else self._blind
            trial = study.ask(self._distributions)
            drawn = trial.params.items()
            settings = {name: _value(self.tune.parameters[name], own) for name, own in drawn}
            if _key(settings) not in self._seen:
                if study is self._study:
                    self._open[number] = trial
                return self._seen_now(settings)
            study.tell(trial, state=TrialState.FAIL)
        return None

    def _seen_now(self, settings: Settings) -> Settings:
        self._seen.add(_key(settings))
        return settings

    def tell(self, trial: Trial) -> None:
        """Learn how a trial ended."""
        asked = self._open.pop(trial.number, None)
        if asked is None:
            self._add(trial)
            return
        values = self._values(trial)
        if values is None:
            self._study.tell(asked, state=_STATES[trial.status])
        else:
            self._study.tell(asked, values)

    def _values(self, trial: Trial) -> list[float] | None:
        if trial.status != "done":
            return None
        found = [trial.objective(name) for name in self.tune.objectives]
        return None if any(value is None for value in found) else [float(v or 0.0) for v in found]

    def _add(self, trial: Trial) -> None:
        values = self._values(trial)
        parameters = {
            name: place_of(own, trial.settings[name]) for name, own in self.tune.parameters.items()
        }
        if values is None or any(value is None for value in parameters.values()):
            return
        self._study.add_trial(
            create_trial(params=parameters, distributions=self._distributions, values=values)
        )

    def _fresh_study(self, algorithm: str, seed: int) -> optuna.Study:
        return optuna.create_study(
            sampler=_sampler(algorithm, seed),
            directions=[StudyDirection.MAXIMIZE] * len(self.tune.objectives),
        )


_STATES = {"done": TrialState.FAIL, "failed": TrialState.FAIL, "stopped": TrialState.PRUNED}


def _listed(tune: TuneSpec, fast: Sequence[str]) -> tuple[int, Iterator[Settings] | None]:
    """How many trials there are at most, and all settings where they do not depend on results."""
    if tune.strategy == "stability_decay":
        return 1, iter([decay_settings(tune)])
    if tune.algorithm != "grid":
        return tune.num_trials or NUM_TRIALS, None
    grid = Grid(tune.parameters, fast)
    number = grid.size if tune.num_trials is None else min(tune.num_trials, grid.size)
    return number, grid.tried(number, tune.seed)


def _key(settings: Settings) -> str:
    return json.dumps(settings, sort_keys=True, default=str)


def _sampler(algorithm: str, seed: int) -> BaseSampler:
    if algorithm == "gp":
        return GPSampler(seed=seed, n_startup_trials=NUM_RANDOM_FOR_MODEL)
    if algorithm == "tpe":
        return TPESampler(seed=seed, n_startup_trials=NUM_RANDOM_TRIALS, multivariate=True)
    if algorithm == "nsga2":
        return NSGAIISampler(seed=seed, population_size=NUM_RANDOM_TRIALS)
    return RandomSampler(seed=seed)


def _distribution(own: AnyRange) -> BaseDistribution:
    """The range as Optuna draws from it: see `place_of` for what is drawn."""
    number = num_points(own)
    low, high = extremes(own)[0], extremes(own)[-1]
    if number is None or number > MAX_WHOLE_NUMBERS:
        return FloatDistribution(low, high, log=isinstance(own, LogRange))
    if isinstance(own, ChoiceRange):
        return CategoricalDistribution(list(range(number)))
    return (
        IntDistribution(low, high) if isinstance(own, IntRange) else IntDistribution(0, number - 1)
    )


def _value(own: AnyRange, drawn: Any) -> Any:
    if isinstance(own, IntRange):
        return min(max(round(drawn), own.int[0]), own.int[1])
    points = points_of(own)
    return float(f"{drawn:.6g}") if points is None else points[int(drawn)]
