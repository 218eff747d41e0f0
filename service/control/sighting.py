"""Where an attempt is, from three witnesses: its launcher, its process, its heartbeat."""

from __future__ import annotations

import time
from enum import Enum, auto

from service.control.launcher import Attempt, Launcher, Standing
from service.control.local_process import Sight, sight_of

SILENT_SECONDS = 6.0
"""A driver that does not beat for this long, and that its launcher has given up, is gone."""
HUNG_SECONDS = 60.0
"""One that does not beat for this long does nothing else either, whatever its launcher says."""


class Sighting(Enum):
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


def sight(launcher: Launcher, attempt: Attempt) -> Sighting:
    """Look for an attempt.

    Args:
        launcher: What runs it.
        attempt: The attempt.
    """
    standing = launcher.look(attempt)
    driver = attempt.folder.read_driver(attempt.number)
    if driver is None:
        return _before_its_beginning(standing)
    return _after_its_beginning(standing, sight_of(driver), silence_of(attempt))


def silence_of(attempt: Attempt) -> float:
    """Seconds since the driver's last sign of life."""
    beginning = attempt.folder.path / f"driver-{attempt.number}.json"
    signs = [
        path.stat().st_mtime for path in (attempt.folder.heartbeat, beginning) if path.exists()
    ]
    return time.time() - max(signs, default=0.0)


def _before_its_beginning(standing: Standing) -> Sighting:
    if standing == "gone":
        return Sighting.UNKNOWN_THERE
    return Sighting.LOST if standing == "ended" else Sighting.WAITING


def _after_its_beginning(standing: Standing, seen: Sight, silent: float) -> Sighting:
    if seen == "dead":
        return Sighting.LOST  # whether or not the launcher has noticed
    is_given_up = standing in ("ended", "gone")
    if seen == "alive":
        # One that beats goes on well, even where its launcher has forgotten it.
        patience = SILENT_SECONDS if is_given_up else HUNG_SECONDS
        return Sighting.STRAY if silent > patience else Sighting.WORKING
    if is_given_up:
        return Sighting.LOST if silent > SILENT_SECONDS else Sighting.WORKING
    if silent > HUNG_SECONDS:
        return Sighting.LOST if standing == "unknown" else Sighting.STRAY
    return Sighting.WORKING
