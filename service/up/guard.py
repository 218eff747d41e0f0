"""Ends a service whose supervisor was killed: it waits for the supervisor's end of a pipe to close.

Run as `python -m ratchet.service.up.guard RECORD`; a line on the pipe says that all went well.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from ratchet.service.up.record import read_record
from ratchet.service.up.stray_processes import end_stray_processes

GRACE_SECONDS = 15.0
ALL_WELL = "stopped\n"


def main(record_path: str) -> None:
    """Wait for the supervisor to end, and clean up where it could not."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with the supervisor, not before
    if sys.stdin.readline() == ALL_WELL:
        return
    record = read_record(Path(record_path))
    if record is not None:
        end_stray_processes(record.mark, record.sessions, GRACE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
