"""What `ratchet up` wrote down of a running service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.service.up.stray_processes import is_running


@dataclass(frozen=True)
class Record:
    """A service as it was last written down.

    Attributes:
        pid: Of the supervisor.
        began: When it was started, in Unix seconds.
        mark: Tells its processes from others.
        urls: Where its parts answer.
        sessions: When the first process of each of its sessions began, by session.
    """

    pid: int
    began: float
    mark: str
    urls: Mapping[str, str] = field(default_factory=dict[str, str])
    sessions: Mapping[int, float] = field(default_factory=dict[int, float])

    @property
    def is_alive(self) -> bool:
        """Whether its supervisor runs."""
        return is_running(self.pid, self.began)

    def write(self, path: Path) -> None:
        """Replace what was written down."""
        write_atomically(path, json.dumps(asdict(self)) + "\n")


def read_record(path: Path) -> Record | None:
    """What was written down last, or None."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # no home, or a file in its way
        return None
    sessions = {int(sid): began for sid, began in content.pop("sessions").items()}
    return Record(**content, sessions=sessions)
