"""Whether a task of a language model is answered from a closed set, or freely."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ratchet.pipelines.data.cutting import Draft
from ratchet.pipelines.data.findings import Findings
from ratchet.pipelines.data.rows import Rows
from ratchet.pipelines.spec.update_spec import UpdateSpec

ROWS_PER_ANSWER = 4
"""Training rows that each answer of a task has on average, for it to be taken as closed."""
LEAST_ROWS_PER_ANSWER = 2
"""The same for a task that is said to be closed."""


def answers_of(spec: UpdateSpec, name: str) -> str:
    """What the spec says of the answers of a task; a stream that is cut says nothing."""
    return next((task.answers for task in spec.tasks or () if task.name == name), "auto")


def name_answers(draft: Draft, answers: str, findings: Findings) -> Draft:
    """The draft with its completions as labels where they are a closed set, else with its own name.

    `auto` takes two or more completions for a closed set when every one of them stands twice or
    more in train, and each `ROWS_PER_ANSWER` times on average.

    Args:
        draft: A task as it was read, with completions for labels; raw text has empty ones.
        answers: What the spec says of them.
        findings: Told where they cannot be the closed set that the spec says they are.
    """
    reason = _never_closed(draft.train.labels) if answers == "closed" else None
    if reason is not None:
        findings.error(f"task {draft.name}", reason, "Set answers: open")
    elif answers == "closed" or (answers == "auto" and _are_few(draft.train.labels)):
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


def _never_closed(completions: Sequence[str]) -> str | None:
    """Why some completions are no closed set, or None."""
    number, limit = len(set(completions)), len(completions) // LEAST_ROWS_PER_ANSWER
    if "" in completions:
        return "answers: closed needs completions to choose from, and this is raw text"
    if number > limit:
        return (
            f"answers: closed takes the completions of train for the only answers there are, and "
            f"{len(completions)} rows hold {number} different ones; at most {limit} are allowed, "
            f"so that each stands there {LEAST_ROWS_PER_ANSWER} times on average"
        )
    return None


def _are_few(completions: Sequence[str]) -> bool:
    counts = Counter(completions)
    if "" in counts or len(counts) < 2:
        return False
    return len(completions) >= ROWS_PER_ANSWER * len(counts) and min(counts.values()) >= 2
