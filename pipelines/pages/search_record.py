"""What was tried and decided for a task, where the spec left it to the search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class RateTried:
    """One plain fine-tuning.

    Attributes:
        learning_rate: Its learning rate.
        score: How well the task was known then, on its validation rows; None where it diverged.
        seconds: How long it took.
    """

    learning_rate: float
    score: float | None
    seconds: float


@dataclass(frozen=True)
class StrengthsTried:
    """One training with methods.

    Attributes:
        strengths: Their strengths, by method.
        score: As of `RateTried`.
        accepted: Whether the task was learned well enough.
        seconds: How long it took.
    """

    strengths: Mapping[str, float]
    score: float | None
    accepted: bool
    seconds: float


@dataclass(frozen=True)
class Decided:
    """What a task is taught with; no strengths where none were searched."""

    learning_rate: float
    strengths: Mapping[str, float]


@dataclass(frozen=True)
class SearchRecord:
    """The search of one task.

    Attributes:
        learning_rates: Plain fine-tuning, a training for each learning rate.
        fine_tuned: The best score of these.
        needed: The score that is enough with methods; None where no strength was wanted.
        strengths: Trainings with methods, from the highest strengths down.
        accepted: Whether the strengths that were taken left enough room to learn.
        decided: What the task is taught with.
    """

    learning_rates: tuple[RateTried, ...]
    fine_tuned: float | None
    needed: float | None
    strengths: tuple[StrengthsTried, ...]
    accepted: bool
    decided: Decided

    @property
    def tried(self) -> tuple[RateTried | StrengthsTried, ...]:
        """Every training, in order."""
        return (*self.learning_rates, *self.strengths)

    @property
    def seconds(self) -> float:
        """Seconds of all trainings, interruptions or not."""
        return sum(one.seconds for one in self.tried)
