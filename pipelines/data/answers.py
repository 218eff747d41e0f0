"""Whether a task of a language model is answered from a closed set, or freely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from pipelines.config import UpdateSpec
from pipelines.data.cutting import Draft
from pipelines.data.rows import Rows

ROWS_PER_ANSWER = 4
"""Training rows that each answer of a closed task has on average, at the least."""


def answers_of(spec: UpdateSpec, name: str) -> str:
    """What the spec says of the answers of a task; a stream that is cut says nothing."""
    return next((task.answers for task in spec.tasks or () if task.name == name), "auto")


def name_answers(draft: Draft, answers: str) -> Draft:
    """The draft with its completions as labels where they are a closed set, else with its own name.

    `auto` takes two or more completions for a closed set when every one of them stands twice or
    more in train, and each `ROWS_PER_ANSWER` times on average.
    """
    if answers == "closed" or (answers == "auto" and _are_few(draft.train.labels)):
        return draft
    splits = {
        "train": draft.train,
        "validation": draft.validation,
        "test": draft.test,
    }
    named = {
        split: None if rows is None else _named(rows, draft.name) for split, rows in splits.items()
    }
    return replace(draft, **named, labels=(draft.name,))


def is_open(name: str, labels: Sequence[str]) -> bool:
    """Whether a task of this name with these labels is answered freely."""
    return tuple(labels) == (name,)


def _named(rows: Rows, name: str) -> Rows:
    return replace(rows, labels=[name] * len(rows))


def _are_few(completions: Sequence[str]) -> bool:
    counts = Counter(completions)
    if "" in counts or len(counts) < 2:
        return False
    return len(completions) >= ROWS_PER_ANSWER * len(counts) and min(counts.values()) >= 2
