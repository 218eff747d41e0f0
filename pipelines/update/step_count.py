"""Steps of an update, done and left, and the time that the rest will take."""

from __future__ import annotations

LEAST_STEPS = 5
"""Steps to be seen before their pace says anything."""


class StepCount:
    """Steps of the whole update, done by this process and left; time left from their ratio."""

    def __init__(self) -> None:
        self.total = 0
        self._stage_offset = 0
        self._done = 0
        self._counted_from: tuple[int, float] | None = None

    def skip(self, steps: int) -> None:
        """Pass over what an interrupted run did."""
        self._done = steps

    def begin(self, offset: int) -> None:
        """Enter the stage that `offset` steps come before."""
        self._stage_offset = offset

    def see(self, step: int, now: float) -> None:
        """A step of the stage was taken.

        Args:
            step: How many of the stage's steps were taken.
            now: Seconds that only grow.
        """
        self._done = self._stage_offset + step
        if self._counted_from is None:
            self._counted_from = (self._done, now)

    def seconds_left(self, now: float) -> float | None:
        """Seconds to the last step at the pace so far, pauses between tasks included."""
        if self._counted_from is None or self.total < self._done:
            return None
        first, since = self._counted_from
        if self._done - first < LEAST_STEPS:
            return None
        return (now - since) / (self._done - first) * (self.total - self._done)
