"""A measurement over seeds: its mean, and how sure that is."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

INTERVAL_WORDS = "95 % interval of the mean over seeds (Student's t)"
# The 97.5 % point of Student's t, by degrees of freedom from 1.
T_POINTS = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
T_LIMIT = 1.96


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: The mean.
        half_width: Half the width of its 95 % interval (Student's t); None with one seed.
        values: The single values, by seed.
    """

    mean: float
    half_width: float | None
    values: tuple[float, ...]

    @staticmethod
    def of(values: Sequence[float]) -> Estimate | None:
        """The estimate from the values of some seeds, or None where there are none."""
        if not values:
            return None
        number = len(values)
        mean = math.fsum(values) / number
        if number == 1:
            return Estimate(mean, None, tuple(values))
        variance = math.fsum((value - mean) ** 2 for value in values) / (number - 1)
        return Estimate(mean, t_point(number - 1) * math.sqrt(variance / number), tuple(values))

    @property
    def interval(self) -> tuple[float, float] | None:
        """Both ends of the 95 % interval; None with one seed."""
        if self.half_width is None:
            return None
        return self.mean - self.half_width, self.mean + self.half_width

    def said(self, write: Callable[[float], str]) -> str:
        """The mean and what it may be off by, each as `write` says it: `95.0 ± 0.2`."""
        text = write(self.mean)
        return text if self.half_width is None else f"{text} ± {write(self.half_width)}"

    def as_dict(self) -> dict[str, float | list[float] | None]:
        """Plain JSON values."""
        return {"mean": self.mean, "half_width": self.half_width, "values": list(self.values)}


def t_point(freedom: int) -> float:
    """The 97.5 % point of Student's t with some degrees of freedom, from 1."""
    return T_POINTS[freedom - 1] if freedom <= len(T_POINTS) else T_LIMIT
