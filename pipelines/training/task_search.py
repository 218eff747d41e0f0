"""What to train with next, and what was decided, from how well each training before it went.

Rates first, by plain fine-tuning; then strengths, downwards. What comes next follows from the
results alone, so that a search goes on from a list of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ratchet.pipelines.errors import DivergedError
from ratchet.pipelines.pages.search_record import (
    Decided,
    RateTried,
    SearchRecord,
    StrengthsTried,
)
from ratchet.pipelines.spec.stability_decay import StabilityDecaySpec
from ratchet.pipelines.training.events import Setting

ROUNDING = 1e-9
"""Scores are counts over counts: one that is exactly enough must not fail by its last bit."""


@dataclass(frozen=True)
class Training:
    """One training of a search.

    Attributes:
        setting: What it was trained with.
        score: How well the task is known then, on its validation rows; None where it diverged.
        seconds: How long it took.
    """

    setting: Setting
    score: float | None
    seconds: float


class TaskSearch:
    """The search for the learning rate and the strengths of one task.

    Args:
        settings: Tolerance, factor, attempts.
        rates: Learning rates to try by plain fine-tuning; empty where neither the rate nor a
            strength is wanted.
        strengths: The strengths to begin with, by method; empty where none is wanted.
        trainings: Trainings that were done before an interruption.

    Source: De Lange et al. 2021, arXiv:1909.08383, Algorithm 1. Deviations: of rates with equal
    scores the lowest is taken, which moves the weights least; with several methods all strengths
    fall together. As in the authors' code the last attempt is taken where none was good enough.
    """

    def __init__(
        self,
        settings: StabilityDecaySpec,
        rates: Sequence[float],
        strengths: Mapping[str, float],
        trainings: Sequence[Training] = (),
    ) -> None:
        self.settings = settings
        self.rates = sorted(set(rates))
        self.strengths = dict(strengths)
        self.trainings = list(trainings)

    @property
    def plain(self) -> list[Training]:
        """The trainings without methods."""
        return self.trainings[: len(self.rates)]

    @property
    def attempts(self) -> list[Training]:
        """The trainings with strengths."""
        return self.trainings[len(self.rates) :]

    @property
    def best(self) -> Training:
        """The plain training with the highest score.

        Raises:
            DivergedError: None of them ended with numbers.
        """
        found = [training for training in self.plain if training.score is not None]
        if not found:
            rates = ", ".join(f"{rate:g}" for rate in self.rates)
            raise DivergedError(
                f"plain fine-tuning diverged at every learning rate that was tried ({rates}): "
                "set lower ones in stability_decay.learning_rates, or in training.learning_rate"
            )
        return max(found, key=lambda training: training.score or 0.0)

    @property
    def needed(self) -> float:
        """The score that is good enough."""
        return (1 - self.settings.tolerance) * (self.best.score or 0.0)

    def accepts(self, training: Training) -> bool:
        """Whether a training with strengths has learned the task well enough."""
        return training.score is not None and training.score >= self.needed - ROUNDING

    def wanted(self) -> Setting | None:
        """What to train with next; None when all is decided."""
        if len(self.plain) < len(self.rates):
            return Setting(self.rates[len(self.plain)])
        attempts = self.attempts
        if not self.strengths or len(attempts) == self.settings.max_attempts:
            return None
        if attempts and self.accepts(attempts[-1]):
            return None
        scale = self.settings.factor ** len(attempts)
        strengths = {kind: scale * first for kind, first in self.strengths.items()}
        return Setting(self.best.setting.learning_rate, strengths)

    def decided(self) -> Setting:
        """What the task is taught with: the best rate and the strengths of the last attempt."""
        assert self.wanted() is None, "all trainings are done"
        return self.attempts[-1].setting if self.attempts else self.best.setting

    def record(self) -> SearchRecord:
        """Everything tried and decided."""
        decided = self.decided()
        return SearchRecord(
            learning_rates=tuple(
                RateTried(t.setting.learning_rate, t.score, t.seconds) for t in self.plain
            ),
            fine_tuned=self.best.score,
            needed=self.needed if self.attempts else None,
            strengths=tuple(
                StrengthsTried(dict(t.setting.strengths or {}), t.score, self.accepts(t), t.seconds)
                for t in self.attempts
            ),
            accepted=not self.attempts or self.accepts(self.attempts[-1]),
            decided=Decided(decided.learning_rate, dict(decided.strengths or {})),
        )
