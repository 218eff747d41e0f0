"""Looks at the registry again and again, so that a promotion goes live by itself."""

from __future__ import annotations

import threading
from typing import Protocol

POLL_SECONDS = 0.5


class Refreshable(Protocol):
    """Something that may have fallen behind the registry."""

    def refresh(self) -> None:
        """Catch up."""
        ...


class Watcher:
    """A thread that refreshes what is served until it is stopped.

    Args:
        served: What to refresh.
        poll_seconds: Pause between two rounds.
    """

    def __init__(self, served: Refreshable, poll_seconds: float = POLL_SECONDS) -> None:
        self._served = served
        self._poll_seconds = poll_seconds
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="ratchet-watcher", daemon=True)
        self._thread.start()

    @property
    def is_watching(self) -> bool:
        """Whether promotions are still noticed."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """End the thread, after the round that it is in."""
        self._stopping.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopping.wait(self._poll_seconds):
            self._served.refresh()
