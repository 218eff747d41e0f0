"""The outbox: tracking events on disk until MLflow has them.

A JSON line an event. Every event can be sent again without changing anything, so a crash between
sending and noting what was sent does no harm.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ratchet.pipelines.files.atomic_file import write_atomically

Event = dict[str, Any]

FILE_NAME = "outbox.jsonl"
SENT_NAME = "outbox.sent.json"


class Outbox:
    """The events of one update, in order, and how far each MLflow store has them.

    Args:
        folder: The run's folder; made when missing.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self._path = folder / FILE_NAME
        self._sent = folder / SENT_NAME
        self._drop_torn_end()

    def append(self, event: Mapping[str, Any]) -> None:
        """Write an event at the end, so that it outlives this process."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(event, ensure_ascii=False, allow_nan=False) + "\n")

    def events(self) -> Iterator[Event]:
        """Every event, oldest first."""
        for event, _ in self._read(0):
            yield event

    def unsent(self, tracking_uri: str) -> list[tuple[Event, int]]:
        """The events that a store lacks, each with the position to `mark` once it has them."""
        return list(self._read(self._marks().get(tracking_uri, 0)))

    def mark(self, tracking_uri: str, position: int) -> None:
        """Note that a store has every event before a position."""
        marks = {**self._marks(), tracking_uri: position}
        write_atomically(self._sent, json.dumps(marks))

    def _marks(self) -> dict[str, int]:
        return json.loads(self._sent.read_text(encoding="utf-8")) if self._sent.exists() else {}

    def _read(self, start: int) -> Iterator[tuple[Event, int]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(start)
            for line in file:
                start += len(line)
                yield json.loads(line), start

    def _drop_torn_end(self) -> None:
        """Cut off a line that a killed process left half written."""
        if not self._path.exists():
            return
        content = self._path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            with self._path.open("r+b") as file:
                file.truncate(whole)
