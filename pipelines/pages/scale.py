"""Axes of a chart: where a value lies, and which ticks are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

STEPS = (1.0, 2.0, 5.0, 10.0)
MARGIN = 0.06


@dataclass(frozen=True)
class Tick:
    """A labelled place on an axis, in the chart's units."""

    at: float
    label: str


@dataclass(frozen=True)
class Scale:
    """A line from values to places.

    Attributes:
        low: Value at `start`.
        high: Value at `end`.
        start: Place of the lowest value, in the chart's units.
        end: Place of the highest.
        is_log: Whether equal factors, not differences, are equally far apart.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    @staticmethod
    def around(
        values: Sequence[float],
        start: float,
        end: float,
        is_log: bool = False,
        limits: tuple[float, float] = (-math.inf, math.inf),
    ) -> Scale:
        """A scale with some room around values, but not beyond limits."""
        low, high = min(values), max(values)
        if is_log:
            room = max(1.25, (high / low) ** MARGIN)
            return Scale(low / room, high * room, start, end, is_log=True)
        room = max((high - low) * MARGIN, 0.005)
        return Scale(max(low - room, limits[0]), min(high + room, limits[1]), start, end)

    def place(self, value: float) -> float:
        """Where a value lies; values beyond the ends lie at the ends."""
        low, high, value = self._on_line(self.low), self._on_line(self.high), self._on_line(value)
        share = min(1.0, max(0.0, (value - low) / (high - low)))
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(
        self, write: Callable[[float], str], number: int = 5, values: Sequence[float] | None = None
    ) -> list[Tick]:
        """About `number` ticks at round values, or those of `values` that lie on the axis."""
        if values is None:
            values = self._log_values() if self.is_log else self._round_values(number)
        return [
            Tick(self.place(value), write(value))
            for value in values
            if self.low <= value <= self.high
        ]

    def _on_line(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.is_log else value

    def _round_values(self, number: int) -> list[float]:
        raw = (self.high - self.low) / number
        power = 10.0 ** math.floor(math.log10(raw))
        step = next(power * factor for factor in STEPS if power * factor >= raw)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]

    def _log_values(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [factor * 10.0**power for power in powers for factor in STEPS[:3]]
