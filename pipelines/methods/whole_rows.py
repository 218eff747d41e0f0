"""Whole rows out of fractions of rows, without a bias over many steps."""

from __future__ import annotations

ROUNDING = 1e-9


class WholeRows:
    """What the steps so far fell short of, less than a row.

    Rounded away in each step, it would skew the share of rehearsed rows, down to nothing with few
    rows a worker.
    """

    def __init__(self) -> None:
        self.rest = 0.0

    def take(self, amount: float) -> int:
        """The whole rows of an amount and of what was owed; the rest is owed from now on."""
        wanted = self.rest + amount
        whole = int(wanted + ROUNDING)
        self.rest = max(0.0, wanted - whole)
        return whole
