"""The gate: the rule that lets a version become champion only when the old abilities held.

It judges accuracies on validation data, task by task. What was not measured proves nothing, so it
is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.spec.update_spec import GateSpec

# Accuracies are counts over rows: a difference of exactly the limit must not fail by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class TaskScore:
    """How a version does on the validation rows of one task.

    Attributes:
        own_labels: Accuracy when the choice is among the task's own labels.
        all_labels: Accuracy when the choice is among the labels of every task; None where that has
            no meaning.
        num_rows: Validation rows that both were measured on.
    """

    own_labels: float
    all_labels: float | None
    num_rows: int


@dataclass(frozen=True)
class TaskComparison:
    """One task before and after, and what the rule says of it.

    Attributes:
        task: Name of the task.
        against: What `before` is: the champion's score, this update's own score right after it
            learned the task, or None when there is nothing to compare with.
        measure: The accuracy that decides.
        before: The score to hold, or None.
        after: The challenger's score, or None when the challenger does not have the task.
        passed: Whether the task satisfies the rule.
        reasons: Why it does not, as sentences with numbers.
    """

    task: str
    against: Literal["champion", "learned"] | None
    measure: Literal["own_labels", "all_labels"]
    before: TaskScore | None
    after: TaskScore | None
    passed: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and why.

    Attributes:
        promoted: Whether the challenger becomes champion.
        reasons: Sentences with numbers: every rule that was broken, or what held.
        comparisons: One a task, in the challenger's order; tasks that it lost come last.
    """

    promoted: bool
    reasons: tuple[str, ...]
    comparisons: tuple[TaskComparison, ...]

    def as_dict(self) -> JsonObject:
        """The verdict as plain JSON values."""
        return asdict(self)


def decide(
    challenger: Mapping[str, TaskScore],
    champion: Mapping[str, TaskScore] | None,
    rule: GateSpec,
    learned: Mapping[str, TaskScore] | None = None,
) -> Verdict:
    """Judge a challenger against the champion, task by task.

    Each task that the champion has, and each task of `learned`, may lose at most
    `rule.max_forgetting` on the measure that `rule.decide_over` names; every task needs at least
    `rule.min_accuracy` on it. Without a champion and without `learned`, only `rule.min_accuracy`
    judges.

    Args:
        challenger: Scores of the new version by task.
        champion: Scores of the version that answers now, on the same rows; None for the first of a
            lineage.
        rule: Limits and the measure that decides.
        learned: Scores of this update's own tasks right after each was learned, so that a stream of
            several tasks in one update is held to the rule too. Where the champion has the task,
            the champion's score counts.
    """
    champion, learned = champion or {}, learned or {}
    lost = [task for task in (*champion, *learned) if task not in challenger]
    names = [*challenger, *dict.fromkeys(lost)]
    comparisons = tuple(
        _compare(task, challenger.get(task), champion.get(task), learned.get(task), rule)
        for task in names
    )
    broken = tuple(reason for comparison in comparisons for reason in comparison.reasons)
    if not challenger:
        broken = ("The challenger was measured on no task, so nothing shows that it works.",)
    return Verdict(not broken, broken or _held(comparisons, rule), comparisons)


def _compare(
    task: str,
    after: TaskScore | None,
    champion: TaskScore | None,
    learned: TaskScore | None,
    rule: GateSpec,
) -> TaskComparison:
    before = champion if champion is not None else learned
    against: Literal["champion", "learned"] | None = None
    if before is not None:
        against = "champion" if champion is not None else "learned"
    reasons = _objections(task, before, after, rule)
    return TaskComparison(task, against, rule.decide_over, before, after, not reasons, reasons)


def _objections(
    task: str, before: TaskScore | None, after: TaskScore | None, rule: GateSpec
) -> tuple[str, ...]:
    if after is None:
        return (f"{task} is missing: it was there before, and the challenger does not have it.",)
    now = _measured(after, rule)
    if now is None:
        return (f"{task} was not measured over {_over(rule)}, so nothing shows that it held.",)
    reasons = []
    if now < rule.min_accuracy - _ROUNDING:
        reasons.append(
            f"{task} reaches {now:.1%} over {_over(rule)}, "
            f"below the required {rule.min_accuracy:.1%}."
        )
    then = _measured(before, rule) if before is not None else None
    if before is not None and then is None:
        reasons.append(f"{task} has no earlier score over {_over(rule)} to be compared with.")
    if then is not None and then - now > rule.max_forgetting + _ROUNDING:
        reasons.append(
            f"{task} fell from {then:.1%} to {now:.1%} over {_over(rule)}, "
            f"{_points(then - now)} on {after.num_rows} rows; "
            f"{_points(rule.max_forgetting)} are allowed."
        )
    return tuple(reasons)


def _held(comparisons: tuple[TaskComparison, ...], rule: GateSpec) -> tuple[str, ...]:
    falls = {c.task: _fall(c, rule) for c in comparisons if c.before is not None}
    lowest = min(comparisons, key=lambda c: _measured(c.after, rule) or 0.0)
    now = _measured(lowest.after, rule) or 0.0
    floor = (
        f"The lowest task, {lowest.task}, reaches {now:.1%} over {_over(rule)}; "
        f"{rule.min_accuracy:.1%} is required."
    )
    if not falls:
        return ("First version of the lineage: there is no earlier score to hold.", floor)
    worst = max(falls, key=lambda task: falls[task])
    change = (
        f"the largest loss is {_points(falls[worst])} on {worst}"
        if falls[worst] > _ROUNDING
        else "none lost anything"
    )
    who = "The task" if len(falls) == 1 else f"Each of the {len(falls)} tasks"
    return (
        f"{who} with an earlier score held: {change}; {_points(rule.max_forgetting)} are allowed.",
        floor,
    )


def _fall(comparison: TaskComparison, rule: GateSpec) -> float:
    before, after = _measured(comparison.before, rule), _measured(comparison.after, rule)
    return (before or 0.0) - (after or 0.0)


def _measured(score: TaskScore | None, rule: GateSpec) -> float | None:
    """The accuracy that decides, or None when not measured: NaN would pass every comparison."""
    if score is None or score.num_rows < 1:
        return None
    value = score.own_labels if rule.decide_over == "own_labels" else score.all_labels
    return None if value is None or math.isnan(value) else value


def _over(rule: GateSpec) -> str:
    return "its own labels" if rule.decide_over == "own_labels" else "all labels"


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"
