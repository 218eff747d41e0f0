"""What the gate found, task by task, and what it decided: a document of plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, cast

from ratchet.pipelines.evaluation.row_outcomes import Measure, Pairs, ServedLoss
from ratchet.pipelines.evaluation.scope import ScopeVerdict
from ratchet.pipelines.files.formats import plain
from ratchet.pipelines.files.json_value import JsonObject

Outcome = Literal["held", "lost", "unsure"]


# Losses are counts over rows: one of exactly the limit must not fail by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class MeasureComparison:
    """The same rows before and after, by one measure, and what the rule says of them.

    Attributes:
        measure: `own`: the choice among the task's own labels; `served`: as `auto` answers.
        version: The version whose answers are `before`; None for this update's own stage.
        before: Rows that were right.
        after: Rows that are right.
        lost: Rows that went from right to wrong.
        gained: Rows that went from wrong to right.
        num_rows: All rows.
        loss: (lost - gained) / num_rows, negative for a gain.
        interval: The losses that the rows do not contradict, at the gate's confidence, not adjusted
            for the number of comparisons.
        p: How likely a change as large in either direction is by chance: McNemar's mid-p test.
        limit: The largest loss that is allowed; None where the measure is not held to any.
        p_above_limit: How likely a loss as large is if the true one is `limit`, adjusted by Holm
            for all comparisons of the decision that have a limit; None without one.
        outcome: `held`: the interval lies within the limit. `lost`: the loss is above the limit, by
            `p_above_limit`. `unsure`: neither. None without a limit.
        passed: Whether the rule is satisfied.
        told: All this as a sentence.
        spread: Of raw text, the standard deviation of a row's loss, whose answers are shares of its
            tokens; None of rows that are right or wrong.
    """

    measure: Measure
    version: int | None
    before: int | float
    after: int | float
    lost: int | float
    gained: int | float
    num_rows: int
    loss: float
    interval: tuple[float, float]
    p: float
    limit: float | None = None
    p_above_limit: float | None = None
    outcome: Outcome | None = None
    passed: bool = True
    told: str = ""
    spread: float | None = None

    @property
    def pairs(self) -> Pairs:
        """The rows before and after."""
        return Pairs(self.lost, self.gained, self.before, self.num_rows, self.spread)

    @property
    def is_above(self) -> bool:
        """Whether the loss as observed is above the limit; a difference of exactly it is not."""
        return self.limit is not None and self.loss > self.limit + _ROUNDING


@dataclass(frozen=True)
class RightRows:
    """How many rows of a task the challenger gets right.

    Attributes:
        own: When the choice is among the task's own labels.
        served: As `auto` answers; None where the task is not served that way.
        num_rows: Validation rows.
    """

    own: int | float
    served: int | float | None
    num_rows: int


@dataclass(frozen=True)
class TaskComparison:
    """One task before and after, and what the rule says of it.

    Attributes:
        task: Name of the task.
        against: What it is held against: its anchor, this update's own answers right after it
            learned the task, or None when there is nothing to hold.
        now: What the challenger gets right; None when it does not have the task.
        own: The comparison that `max_forgetting` judges; None where there is nothing to compare.
        served: The comparison that `max_served_loss` judges; None where there is nothing.
        served_loss: What became of the rows that `served` lost; None with it.
        champion_own: Against the champion instead, which decides nothing.
        champion_served: The same, as `auto` answers.
        passed: Whether the task satisfies the rule.
        reasons: Why it does not, as sentences with numbers.
    """

    task: str
    against: Literal["anchor", "learned"] | None
    now: RightRows | None
    own: MeasureComparison | None
    served: MeasureComparison | None
    served_loss: ServedLoss | None
    champion_own: MeasureComparison | None
    champion_served: MeasureComparison | None
    passed: bool
    reasons: tuple[str, ...]

    @property
    def judged(self) -> tuple[MeasureComparison, ...]:
        """The comparisons that have a limit to keep."""
        return tuple(c for c in (self.own, self.served) if c is not None and c.limit is not None)


@dataclass(frozen=True)
class Verdict:
    """What the gate decided, and why.

    Attributes:
        promoted: Whether the challenger becomes champion.
        reasons: Sentences with numbers: every rule that was broken, or what was shown.
        comparisons: One a task, in the challenger's order; tasks that it lacks come last.
        headline: The whole in one sentence.
        confidence: Of the intervals.
        out_of_scope: What became of text that belongs to no task; None where there is none.
    """

    promoted: bool
    reasons: tuple[str, ...]
    comparisons: tuple[TaskComparison, ...]
    headline: str
    confidence: float
    out_of_scope: ScopeVerdict | None = None

    def as_dict(self) -> JsonObject:
        """The verdict as plain JSON values."""
        return cast("JsonObject", plain(asdict(self)))
