# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""The journal of a job: lines that drivers append to `events.jsonl`, one attempt after another."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.service.driver.job_folder import finite

Level = Literal["info", "warn", "error"]
LineType = Literal["message", "metrics", "status", "checkpoint", "progress"]
"""Lines of type `progress` say where the job is, and are no events that anybody keeps."""

LEVELS = ("info", "warn", "error")
LINE_TYPES = ("message", "metrics", "status", "checkpoint", "progress")


@dataclass(frozen=True)
class Line:
    """One thing that a driver said.

    Attributes:
        attempt: The attempt that said it.
        time: Unix seconds.
        phase: Where the job is since then, or None for where it was.
        data: Numbers and names; of `progress`, where in the update it is.
    """

    attempt: int
    time: float
    level: Level
    type: LineType
    phase: str | None
    message: str
    data: JsonObject | None

    @staticmethod
    def parse(text: bytes) -> Line | None:
        """A line of the file, or None where it is none: cut off by a kill, or by another hand."""
        try:
            raw = json.loads(text)
        except ValueError:
            return None
        if not isinstance(raw, dict) or not _is_line(raw):
            return None
        known = {name: raw[name] for name in Line.__dataclass_fields__}
        return Line(**known | {"data": finite(raw["data"])})


def _is_line(raw: Mapping[str, Json]) -> bool:
    number = int | float
    return (
        raw.keys() >= Line.__dataclass_fields__.keys()
        and isinstance(raw["attempt"], int)
        and isinstance(raw["time"], number)
        and raw["level"] in LEVELS
        and raw["type"] in LINE_TYPES
        and isinstance(raw["phase"], str | None)
        and isinstance(raw["message"], str)
        and isinstance(raw["data"], dict | None)
    )


class Journal:
    """Appends to a job's `events.jsonl`. Safe for threads.

    A line that a killed attempt left half written is ended first.

    Args:
        path: The file.
        attempt: The attempt that writes.
        echo: Where people read the same, all but progress; None for nowhere.
    """

    def __init__(self, path: Path, attempt: int, echo: TextIO | None = None) -> None:
        self.path = path
        self.attempt = attempt
        self.echo = echo
        self._lock = threading.Lock()
        self._is_ended = False
        with path.open("ab+") as file:
            if file.tell() > 0:
                file.seek(-1, 2)
                if file.read(1) != b"\n":
                    file.write(b"\n")

    def write(
        self,
        message: str,
        *,
        level: Level = "info",
        type: LineType = "message",
        phase: str | None = None,
        data: Mapping[str, Json] | None = None,
    ) -> None:
        """Append one line; after `end`, none.

        Args:
            message: One sentence; nobody needs one of `progress`.
            level: How serious it is.
            type: What it is.
            phase: Where the job is from now on; None leaves that.
            data: Numbers and names.
        """
        self._append(message, level, type, phase, data)

    def end(self, message: str) -> None:
        """Append the last line, of type `status`, whatever other threads still want to say."""
        self._append(message, "info", "status", None, None, is_last=True)

    def _append(
        self,
        message: str,
        level: Level,
        type: LineType,
        phase: str | None,
        data: Mapping[str, Json] | None,
        is_last: bool = False,
    ) -> None:
        line = {
            "attempt": self.attempt,
            "time": time.time(),
            "level": level,
            "type": type,
            "phase": phase,
            "message": message,
            "data": finite(data),
        }
        text = json.dumps(line, allow_nan=False) + "\n"
        with self._lock:
            if self._is_ended:
                return
            self._is_ended = is_last
            with self.path.open("ab", buffering=0) as file:
                file.write(text.encode())
        if self.echo is not None and type != "progress":
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            job = self.path.parent.name
            self.echo.write(f"{when} {level} {job} attempt {self.attempt}: {message}\n")
            self.echo.flush()
