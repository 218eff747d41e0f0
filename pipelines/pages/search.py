"""What was tried and decided for each task, where the spec left it to the search."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ratchet.pipelines.pages.search_record import SearchRecord
from ratchet.pipelines.pages.words import NONE, percent


@dataclass(frozen=True)
class Try:
    """One training: with what, how well the task was known then, and whether it was taken."""

    setting: str
    score: str
    is_taken: bool


@dataclass(frozen=True)
class SearchRow:
    """The search of one task.

    Attributes:
        task: Its name.
        rates: Plain fine-tuning, a training for each learning rate.
        reached: The best score of these.
        needed: The score that was enough with methods; a dash where no strength was wanted.
        strengths: Trainings with methods, from the highest strengths down.
        decided: What the task was taught with.
        is_enough: Whether the strengths that were taken left enough room to learn.
        seconds: Seconds of all trainings.
    """

    task: str
    rates: tuple[Try, ...]
    reached: str
    needed: str
    strengths: tuple[Try, ...]
    decided: str
    is_enough: bool
    seconds: float


def search_rows(records: Mapping[str, SearchRecord]) -> list[SearchRow]:
    """A row for each task that something was searched for.

    Args:
        records: What was tried and decided, by task.
    """
    return [_row(task, record) for task, record in records.items()]


def setting_words(learning_rate: float | None, strengths: Mapping[str, float] | None) -> str:
    """A setting in words: `learning rate 0.001, ewc 250`."""
    parts = [] if learning_rate is None else [f"learning rate {learning_rate:g}"]
    parts += [f"{kind} {strength:.4g}" for kind, strength in (strengths or {}).items()]
    return ", ".join(parts)


def _row(task: str, record: SearchRecord) -> SearchRow:
    decided = record.decided
    return SearchRow(
        task=task,
        rates=tuple(
            Try(
                f"{one.learning_rate:g}",
                _score(one.score),
                one.learning_rate == decided.learning_rate,
            )
            for one in record.learning_rates
        ),
        reached=percent(record.fine_tuned),
        needed=percent(record.needed),
        strengths=tuple(
            Try(
                setting_words(None, one.strengths),
                _score(one.score),
                one is record.strengths[-1],
            )
            for one in record.strengths
        ),
        decided=setting_words(decided.learning_rate, decided.strengths) or NONE,
        is_enough=record.accepted,
        seconds=record.seconds,
    )


def _score(score: float | None) -> str:
    return "diverged" if score is None else percent(score)
