"""Axes of a chart: where a value lies, and which ticks are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

STEPS = (1.0, 2.0, 5.0, 10.0)
MARGIN = 0.06
DURATIONS = (
    0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800,
    3600, 7200, 18000, 36000, 72000, 86400, 172800, 432000, 864000,
)  # fmt: skip
"""Seconds that are said in a single unit."""

TICK_LETTER, TICK_GAP = 6.0, 8.0


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
        self,
        write: Callable[[float], str],
        number: int = 5,
        values: Sequence[float] | None = None,
        steps: Sequence[float] = (),
    ) -> list[Tick]:
        """About `number` ticks at round values, or those of `values` that lie on the axis.

        Args:
            write: The label of a value.
            number: About how many.
            values: Where they may be, if not at round values.
            steps: What may lie between two, if not 1, 2 or 5 times a power of ten.
        """
        if values is None:
            values = self._log_values() if self.is_log else self._round_values(number, steps)
        return [
            Tick(self.place(value), write(value))
            for value in values
            if self.low <= value <= self.high
        ]

    def _on_line(self, value: float) -> float:
        return math.log10(max(value, 1e-12)) if self.is_log else value

    def _round_values(self, number: int, steps: Sequence[float]) -> list[float]:
        raw = (self.high - self.low) / number
        power = 10.0 ** math.floor(math.log10(raw))
        allowed = (*steps, *(power * factor for factor in STEPS))
        step = next(own for own in allowed if own >= raw)
        first = math.ceil(self.low / step - 1e-9)
        last = math.floor(self.high / step + 1e-9)
        return [round(index * step, 12) for index in range(first, last + 1)]

    def _log_values(self) -> list[float]:
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        return [factor * 10.0**power for power in powers for factor in STEPS[:3]]


def apart(ticks: Sequence[Tick]) -> list[Tick]:
    """The ticks of an axis below, but for those whose label would touch that of one before."""
    kept: list[Tick] = []
    for tick in ticks:
        if not kept or tick.at - kept[-1].at >= _width(tick, kept[-1]):
            kept.append(tick)
    return kept


def _width(one: Tick, other: Tick) -> float:
    """From middle to middle of two labels side by side."""
    return TICK_LETTER * (len(one.label) + len(other.label)) / 2 + TICK_GAP
