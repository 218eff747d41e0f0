"""How a version answered the validation rows of one task, row by row, as a version carries it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal, cast

import numpy as np

from ratchet.pipelines.evaluation.flips import Bools, unpack_right
from ratchet.pipelines.files.formats import checked, plain
from ratchet.pipelines.files.json_value import Json, JsonObject

Measure = Literal["own", "served"]


@dataclass(frozen=True)
class RowOutcomes:
    """How a version answered the validation rows of one task, packed by `flips.pack_right`.

    Attributes:
        rows: A hash of the rows and their labels, in order: only equal ones are compared.
        own: Which were right when the choice was among the task's own labels.
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

    def num_right(self, measure: Measure) -> int | None:
        """How many rows were right; None where it was not measured."""
        right = self.right(measure)
        return None if right is None else int(right.sum())

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
        lost: Rows that were right before and are wrong after.
        gained: Rows that were wrong before and are right after.
        before: Rows that were right before.
        num_rows: All rows.
    """

    lost: int
    gained: int
    before: int
    num_rows: int


def compare(before: RowOutcomes, after: RowOutcomes, measure: Measure) -> Pairs:
    """Count what changed from one version to another.

    Raises:
        ValueError: They answered different rows, or one of them was not measured so.
    """
    old, new = _pair(before, after, measure)
    return Pairs(int((old & ~new).sum()), int((new & ~old).sum()), int(old.sum()), len(old))


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
    number, _, digits = bits.partition(":")
    if not number.isdecimal() or len(bytes.fromhex(digits)) != -(-int(number) // 8):
        raise ValueError(f"{bits[:40]!r} does not say of each row whether it was right")
    return int(number)
