"""Interleaved timing on a busy machine: ratios within a repeat, then their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

CLOCKS: Mapping[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Timing:
    """Seconds of each repeat: by the clock on the wall, and of this process on the processor."""

    wall: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def take(self, work: Callable[[], object]) -> None:
        started = {name: clock() for name, clock in CLOCKS.items()}
        work()
        for name, clock in CLOCKS.items():
            getattr(self, name).append(clock() - started[name])

    def median(self, clock: str = "wall") -> float:
        return statistics.median(getattr(self, clock))

    def scaled(self, factor: float) -> Timing:
        return Timing([s * factor for s in self.wall], [s * factor for s in self.cpu])


def interleaved(
    ways: Mapping[str, Callable[[], object]], repeats: int, warmup: int = 1
) -> dict[str, Timing]:
    """Time each way once a repeat; every other repeat goes backwards: none is always first."""
    timings = {name: Timing() for name in ways}
    for repeat in range(-warmup, repeats):
        names = list(ways) if repeat % 2 else list(reversed(ways))
        for name in names:
            if repeat < 0:
                ways[name]()
            else:
                timings[name].take(ways[name])
    return timings


def ratios(above: Timing, below: Timing, clock: str) -> list[float]:
    """The ratio of two ways within each repeat."""
    pairs = zip(getattr(above, clock), getattr(below, clock), strict=True)
    return [a / b for a, b in pairs]


def spread(values: list[float], digits: int = 3) -> str:
    """The median of some values, with the tenth and the ninetieth percentile."""
    low, middle, high = (f"{value:.{digits}f}" for value in np.percentile(values, [10, 50, 90]))
    return f"{middle} ({low}-{high})"


def show_ratio(label: str, above: Timing, below: Timing) -> None:
    """One line: the ratio by both clocks."""
    wall, cpu = (spread(ratios(above, below, clock)) for clock in ("wall", "cpu"))
    print(f"  {label:<34} wall {wall}   cpu {cpu}", flush=True)
