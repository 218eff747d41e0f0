"""Text that belongs to no task: how much of it a version may answer as if it did."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import NormalDist

from ratchet.pipelines.evaluation.as_served import OutOfScopeRows
from ratchet.pipelines.spec.update_spec import GateSpec

# Shares are counts over rows: one of exactly the limit must not fail by rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class ScopeVerdict:
    """What the gate says of text that belongs to no task.

    Attributes:
        num_accepted: How much of it is answered as if it did.
        num_rows: How much there is.
        interval: The shares that the rows do not contradict, at the gate's confidence.
        limit: The largest share that is allowed.
        passed: Whether the rule is satisfied.
        told: All this as a sentence.
    """

    num_accepted: int
    num_rows: int
    interval: tuple[float, float]
    limit: float
    passed: bool
    told: str


def share_interval(number: int, num_rows: int, confidence: float) -> tuple[float, float]:
    """The score interval of a share (Wilson 1927).

    Args:
        number: Rows that count.
        num_rows: All rows, one at least.
        confidence: Between 0 and 1, both excluded.

    Raises:
        ValueError: The counts are no share of rows.
    """
    if not 0 <= number <= num_rows or num_rows < 1:
        raise ValueError(f"{number} of {num_rows} rows is no share")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, extra = number / num_rows, z * z / num_rows
    middle = share + extra / 2
    width = z * math.sqrt(share * (1 - share) / num_rows + extra / (4 * num_rows))
    low, high = (middle - width) / (1 + extra), (middle + width) / (1 + extra)
    return (0.0 if number == 0 else low), (1.0 if number == num_rows else high)


def judge_scope(found: OutOfScopeRows, rule: GateSpec) -> ScopeVerdict:
    """Hold the share that is accepted to `rule.max_accepted_out_of_scope`; 1 holds it to nothing.

    It is within the limit where the upper bound is, above where the lower bound is, and else
    `rule.when_unsure` decides.
    """
    limit, share = rule.max_accepted_out_of_scope, found.num_accepted / found.num_rows
    low, high = share_interval(found.num_accepted, found.num_rows, rule.confidence)
    unsure = {"estimate": share <= limit + _ROUNDING, "refuse": False, "promote": True}
    passed = limit >= 1 or high <= limit or (low <= limit and unsure[rule.when_unsure])
    told = (
        f"{found.num_accepted} of {found.num_rows} texts that belong to no task are answered as if "
        f"they did ({100 * share:.1f} %; {100 * rule.confidence:g} % interval {100 * low:.1f} to "
        f"{100 * high:.1f})"
    )
    if limit < 1:
        word = "within" if share <= limit + _ROUNDING else "above"
        told += f", {word} the {100 * limit:g} % allowed"
        if low <= limit < high:
            told += ", and chance is not excluded"
    return ScopeVerdict(found.num_accepted, found.num_rows, (low, high), limit, passed, f"{told}.")
