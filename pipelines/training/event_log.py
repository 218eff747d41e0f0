"""The run's event log: JSON lines that the first worker appends and the driver follows.

A file, because it outlives every process: after a crash it still says how far the run came.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from ratchet.pipelines.training.events import RunEvent, event_from_json, event_to_json

EVENTS_FILE = "events.jsonl"


class EventLog:
    """Appends events; only the first rank does.

    Args:
        folder: The run's folder.
        rank: This worker's rank; others than 0 write nothing.
    """

    def __init__(self, folder: Path, rank: int = 0) -> None:
        self.path = folder / EVENTS_FILE
        self.rank = rank

    def emit(self, event: RunEvent) -> None:
        """Append one event, with the time in Unix seconds."""
        if self.rank != 0:
            return
        raw = event_to_json(event)
        line = json.dumps({"kind": raw.pop("kind"), "time": time.time(), **raw})
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line + "\n")


class EventReader:
    """Follows an event log from where the last look ended; a line still being written waits."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / EVENTS_FILE
        self._offset = 0

    def skip_to_end(self) -> None:
        """Pass over what an interrupted run left."""
        self._offset = self.path.stat().st_size if self.path.exists() else 0

    def read(self) -> Iterator[RunEvent]:
        """Every event since the last look.

        Raises:
            VersionError: Another release writes this log.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as stream:
            stream.seek(self._offset)
            for line in stream:
                if not line.endswith(b"\n"):
                    return
                self._offset += len(line)
                yield event_from_json(json.loads(line))
