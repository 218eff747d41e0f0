"""How a version answered the validation rows of one task, row by row, as a version carries it.

Rows are right or wrong, but for those of raw text, whose answers are shares of their tokens.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, cast

import numpy as np

from ratchet.pipelines.evaluation.flips import SHARES, Bools, unpack_right, unpack_scores
from ratchet.pipelines.evaluation.paired import (
    mean_interval,
    mean_p_above,
    mid_p,
    mid_p_loss,
    p_above,
    score_interval,
)
from ratchet.pipelines.files.formats import checked, plain
from ratchet.pipelines.files.json_value import Json, JsonObject

Measure = Literal["own", "served"]


@dataclass(frozen=True)
class RowOutcomes:
    """How a version answered the validation rows of one task, packed by `flips.pack_scores`.

    Attributes:
        rows: A hash of the rows and their labels, in order: only equal ones are compared.
        own: Which were right when the choice was among the task's own labels; of raw text, the
            share of each row's tokens.
        served: Which were right as a caller of `auto` gets them, a rejected row being wrong; None
            where the task is not served that way.
        other_task: Which were served with another task's label.
        rejected: Which the router rejected.
    """

    rows: str
    own: str
    served: str | None
    other_task: str | None = None
    rejected: str | None = None

    def __post_init__(self) -> None:
        """Refuse bits that are broken, or of another number of rows.

        Raises:
            ValueError: They are.
        """
        given = (self.own, self.served, self.other_task, self.rejected)
        numbers = {_number(bits) for bits in given if bits is not None}
        if len(numbers) > 1:
            raise ValueError(f"outcomes of {sorted(numbers)} rows stand side by side")

    @property
    def num_rows(self) -> int:
        """Rows that were answered."""
        return _number(self.own)

    def right(self, measure: Measure) -> Bools | None:
        """Which rows were right, [rows]; None where it was not measured."""
        bits = self.own if measure == "own" else self.served
        return None if bits is None else unpack_right(bits)

    @property
    def is_shares(self) -> bool:
        """Whether rows are answered in part, as raw text is."""
        return self.own.startswith(SHARES)

    def num_right(self, measure: Measure) -> int | float | None:
        """How many rows were right; None where it was not measured."""
        bits = self.own if measure == "own" else self.served
        if bits is None:
            return None
        total = float(unpack_scores(bits).sum())
        return total if self.is_shares else round(total)

    def as_dict(self) -> JsonObject:
        """Plain JSON values, as a version keeps them."""
        return cast("JsonObject", plain(asdict(self)))

    @staticmethod
    def from_dict(raw: Json, where: str) -> RowOutcomes:
        """The outcomes that `as_dict` wrote.

        Args:
            raw: Plain values.
            where: What they were read from, for the message.

        Raises:
            VersionError: They are no outcomes.
        """
        return checked(RowOutcomes, raw, where, "restore the version from a copy")


@dataclass(frozen=True)
class Pairs:
    """The same rows before and after.

    Attributes:
        lost: Rows that were right before and are wrong after; of shares, what all rows lost.
        gained: Rows that were wrong before and are right after; of shares, what all rows gained.
        before: Rows that were right before.
        num_rows: All rows.
        spread: Of shares, the standard deviation of a row's loss; None of rows that are right or
            wrong.
    """

    lost: int | float
    gained: int | float
    before: int | float
    num_rows: int
    spread: float | None = None

    @property
    def loss(self) -> float:
        """The mean loss of a row, negative for a gain."""
        return (self.lost - self.gained) / self.num_rows

    def interval(self, confidence: float) -> tuple[float, float]:
        """The losses that the rows do not contradict; see `paired`."""
        if self.spread is None:
            return score_interval(round(self.lost), round(self.gained), self.num_rows, confidence)
        return mean_interval(self.loss, self.spread, self.num_rows, confidence)

    def p_above(self, limit: float) -> float:
        """How likely a loss as large is if the true one is `limit`."""
        if self.spread is None:
            return p_above(round(self.lost), round(self.gained), self.num_rows, limit)
        return mean_p_above(self.loss, self.spread, self.num_rows, limit)

    def p_change(self) -> float:
        """How likely a change as large in either direction is by chance."""
        if self.spread is None:
            return mid_p(round(self.lost), round(self.gained))
        return 2 * min(self.p_loss(), self.p_gain())

    def p_loss(self) -> float:
        """How likely a loss as large is by chance."""
        if self.spread is None:
            return mid_p_loss(round(self.lost), round(self.gained))
        return self.p_above(0.0)

    def p_gain(self) -> float:
        """How likely a gain as large is by chance."""
        if self.spread is None:
            return mid_p_loss(round(self.gained), round(self.lost))
        return mean_p_above(-self.loss, self.spread, self.num_rows, 0.0)


def compare(before: RowOutcomes, after: RowOutcomes, measure: Measure) -> Pairs:
    """Count what changed from one version to another.

    Raises:
        ValueError: They answered different rows, or one of them was not measured so.
    """
    if measure == "own" and (before.is_shares or after.is_shares):
        return _compare_shares(before, after)
    old, new = _pair(before, after, measure)
    return Pairs(int((old & ~new).sum()), int((new & ~old).sum()), int(old.sum()), len(old))


def _compare_shares(before: RowOutcomes, after: RowOutcomes) -> Pairs:
    old, new = unpack_scores(before.own), unpack_scores(after.own)
    if before.rows != after.rows or len(old) != len(new):
        raise ValueError(f"the outcomes of {before.rows} and {after.rows} are of different rows")
    fell = old - new
    spread = float(fell.std(ddof=1)) if len(fell) > 1 else 0.0
    lost, gained = float(fell.clip(min=0).sum()), float((-fell).clip(min=0).sum())
    return Pairs(lost, gained, float(old.sum()), len(old), spread)


@dataclass(frozen=True)
class ServedLoss:
    """What `auto` answers now to the rows that it answered rightly before and gets wrong after.

    Attributes:
        other_task: Rows answered with another task's label.
        rejected: Rows rejected by the router.
        within_task: Rows answered with a wrong label of their own task.
    """

    other_task: int
    rejected: int
    within_task: int


def served_loss(before: RowOutcomes, after: RowOutcomes) -> ServedLoss:
    """Tell the lost rows of `served` apart; a row counts once, a rejected one as rejected.

    Raises:
        ValueError: As of `compare`.
    """
    old, new = _pair(before, after, "served")
    lost = old & ~new
    rejected = lost & _bits(after.rejected, len(old))
    elsewhere = lost & _bits(after.other_task, len(old)) & ~rejected
    within = lost & ~rejected & ~elsewhere
    return ServedLoss(int(elsewhere.sum()), int(rejected.sum()), int(within.sum()))


def _pair(before: RowOutcomes, after: RowOutcomes, measure: Measure) -> tuple[Bools, Bools]:
    old, new = before.right(measure), after.right(measure)
    if before.rows != after.rows or old is None or new is None or len(old) != len(new):
        raise ValueError(f"the outcomes of {before.rows} and {after.rows} are of different rows")
    return old, new


def _bits(packed: str | None, number: int) -> Bools:
    return np.zeros(number, dtype=bool) if packed is None else unpack_right(packed)


def _number(bits: str) -> int:
    """The number of rows of packed bits.

    Raises:
        ValueError: They are broken.
    """
    if bits.startswith(SHARES):
        return len(bytes.fromhex(bits.removeprefix(SHARES)))
    number, _, digits = bits.partition(":")
    if not number.isdecimal() or len(bytes.fromhex(digits)) != -(-int(number) // 8):
        raise ValueError(f"{bits[:40]!r} does not say of each row whether it was right")
    return int(number)
