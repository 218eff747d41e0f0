"""A whole study: its trials, its front, and the three files that say so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.choice import Choice, choose
from ratchet.pipelines.tuning.effects import Effect, effects
from ratchet.pipelines.tuning.front import Placed, Point, front, hypervolume, knee, reference_point
from ratchet.pipelines.tuning.noise import Noise, noise
from ratchet.pipelines.tuning.trial import Trial


@dataclass(frozen=True)
class Study:
    """What a study tried and found. Everything but its fields follows from the trials.

    Attributes:
        name: The study's name.
        lineage: The lineage that its trials grow from.
        spec: Name of the spec's file, as a user may type it.
        tune: The section that asked for the study.
        trials: All trials, in any order.
        seconds: Wall time of the study.
        warnings: What a reader should know, a sentence each.
        changes: What was changed in the spec's file, as `field=value`.
        verb: The command that runs an update of the spec: `run`, or `submit` to a service.
        reference: The corner of the hypervolume by objective; None for `reference_point`.
    """

    name: str
    lineage: str
    spec: str
    tune: TuneSpec
    trials: tuple[Trial, ...]
    seconds: float
    warnings: tuple[str, ...] = ()
    reference: Mapping[str, float] | None = None
    changes: tuple[str, ...] = ()
    verb: str = "run"

    @cached_property
    def front(self) -> list[Placed]:
        """The trials that no other beats in every objective."""
        return front(self.trials, self.tune.objectives)

    @cached_property
    def knee(self) -> Trial | None:
        """The trial of the front that is furthest out from between its ends."""
        return knee(self.front)

    @cached_property
    def chosen(self) -> Choice | None:
        """The trial that `tune.choose` takes; None where no trial finished."""
        return choose(self.trials, self.tune.choose, self.tune.objectives)

    @cached_property
    def noise(self) -> Noise:
        """What is on the front by noise."""
        return noise(self.trials, self.tune.objectives, seed=self.tune.seed)

    @cached_property
    def effects(self) -> list[Effect]:
        """What each parameter does to each objective."""
        tune = self.tune
        return effects(self.trials, tune.parameters, tune.objectives, seed=tune.seed)

    @cached_property
    def corner(self) -> Point:
        """The corner from which the hypervolume is measured, in the order of the objectives."""
        if self.reference is not None:
            return tuple(self.reference[name] for name in self.tune.objectives)
        return reference_point(self.trials, self.tune.objectives)

    @cached_property
    def hypervolume(self) -> float:
        """How far the front reaches; see `ratchet.pipelines.tuning.front.hypervolume`."""
        return hypervolume([own.point for own in self.front], self.corner)

    @property
    def seconds_saved(self) -> float:
        """What the shared beginnings of trials would have taken, had each been taught again."""
        return sum(seed.shared_seconds for trial in self.trials for seed in trial.seeds)

    def as_dict(self) -> JsonObject:
        """What `ratchet tune SPEC --json` prints, as plain JSON values."""
        found = self.noise
        return {
            "study": self.name,
            "lineage": self.lineage,
            "spec": self.spec,
            "tune": self.tune.model_dump(mode="json"),
            "trials": [trial.as_dict() for trial in self.trials],
            "objectives": list(self.tune.objectives),
            "front": [own.trial.number for own in self.front],
            "knee": None if self.knee is None else self.knee.number,
            "hypervolume": self.hypervolume,
            "reference": dict(zip(self.tune.objectives, self.corner, strict=True)),
            "chosen": None if self.chosen is None else self.chosen.as_dict(),
            "on_front_probability": None if found.on_front is None else _by_text(found.on_front),
            "intervals": _by_text(found.intervals),
            "noise": found.summary,
            "effects": [own.as_dict() for own in self.effects],
            "seconds": self.seconds,
            "seconds_saved": self.seconds_saved,
            "warnings": list(self.warnings),
        }


def _by_text(found: Mapping[int, Json]) -> JsonObject:
    return {str(number): own for number, own in found.items()}
