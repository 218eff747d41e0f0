"""Looks at the registry again and again, so that a promotion goes live by itself."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from service.served_lineage import ServedLineage

POLL_SECONDS = 0.5


class Watcher:
    """A thread that refreshes lineages until it is stopped.

    Args:
        lineages: What to refresh, one after another.
        poll_seconds: Pause between two rounds.
    """

    def __init__(
        self, lineages: Iterable[ServedLineage], poll_seconds: float = POLL_SECONDS
    ) -> None:
        self._lineages = tuple(lineages)
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
            for lineage in self._lineages:
                lineage.refresh()
