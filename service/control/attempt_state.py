"""Where an attempt is, from three witnesses: its launcher, its process, its heartbeat."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import Enum, auto

from ratchet.service.control.launcher import Attempt, Launcher, Standing
from ratchet.service.control.local_process import Sight, sight_of

SILENT_SECONDS = 6.0
"""A driver that does not beat for this long, and that its launcher has given up, is gone."""
HUNG_SECONDS = 60.0
"""One that does not beat for this long does nothing else either, whatever its launcher says."""
LONGEST_GLANCE_SECONDS = 3.0
"""What counts of the time between two looks: a machine that slept in it heard nothing."""
MAX_WATCHED = 1000


class AttemptState(Enum):
    """What is to be made of an attempt that has neither a result nor a failure."""

    UNKNOWN_THERE = auto()
    """It was never submitted, or was lost before it began: submit it."""
    WAITING = auto()
    """It has not begun, or nobody can say."""
    WORKING = auto()
    """It runs."""
    STRAY = auto()
    """It lives and should not: hung, or forgotten by its launcher."""
    LOST = auto()
    """It is gone."""


@dataclass
class _Watched:
    """A sign of life, for how long it has been the last, and when it was looked at."""

    sign: float
    seconds: float
    looked: float


class AttemptWatch:
    """Looks for attempts, and remembers how long each has given no new sign of life.

    A clock that differs from that of a file server, or that jumped while the machine slept, makes
    no driver silent: whoever beats is heard.

    Args:
        launcher: What runs them.
    """

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._watched: dict[str, _Watched] = {}

    def sight(self, attempt: Attempt) -> AttemptState:
        """Look for an attempt."""
        standing = self._launcher.look(attempt)
        driver = attempt.folder.read_driver(attempt.number)
        if driver is None:
            return _before_its_beginning(standing)
        return _after_its_beginning(standing, sight_of(driver), self._silence_of(attempt))

    def _silence_of(self, attempt: Attempt) -> float:
        """Seconds for which this controller has seen no new sign of the driver's life."""
        beginning = attempt.folder.path / f"driver-{attempt.number}.json"
        signs = [
            path.stat().st_mtime for path in (attempt.folder.heartbeat, beginning) if path.exists()
        ]
        sign, now = max(signs, default=0.0), time.monotonic()
        known = self._watched.pop(attempt.submission, None)
        if known is None or known.sign != sign:
            known = _Watched(sign, 0.0, now)
        known.seconds += min(now - known.looked, LONGEST_GLANCE_SECONDS)
        known.looked = now
        self._watched[attempt.submission] = known  # the last looked at stands last
        if len(self._watched) > MAX_WATCHED:
            del self._watched[next(iter(self._watched))]
        return known.seconds


def _before_its_beginning(standing: Standing) -> AttemptState:
    if standing == "gone":
        return AttemptState.UNKNOWN_THERE
    return AttemptState.LOST if standing == "ended" else AttemptState.WAITING


def _after_its_beginning(standing: Standing, seen: Sight, silent: float) -> AttemptState:
    if seen == "dead":
        return AttemptState.LOST  # whether or not the launcher has noticed
    is_given_up = standing in ("ended", "gone")
    if seen == "alive":
        # One that beats goes on well, even where its launcher has forgotten it.
        patience = SILENT_SECONDS if is_given_up else HUNG_SECONDS
        return AttemptState.STRAY if silent > patience else AttemptState.WORKING
    if is_given_up:
        return AttemptState.LOST if silent > SILENT_SECONDS else AttemptState.WORKING
    if silent > HUNG_SECONDS:
        return AttemptState.LOST if standing == "unknown" else AttemptState.STRAY
    return AttemptState.WORKING
