"""Locks between processes, held by the kernel so that a dead process never keeps one."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from ratchet.pipelines.errors import BusyError


@contextmanager
def exclusive(path: Path, what: str) -> Iterator[None]:
    """Hold a lock file for as long as the block runs, or refuse at once.

    The lock ends with the process that holds it, however that ends, so a stale one needs no care.

    Args:
        path: The lock file; it is made and stays.
        what: What is locked, for the message.

    Raises:
        BusyError: When another process (or another part of this one) holds the lock; says which.
    """
    with path.open("a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise BusyError(
                f"{what} is being changed by {_holder(file.read())}. "
                "Wait until that is done, or end that process"
            ) from None
        file.truncate(0)
        file.write(_name_of_this_process())
        file.flush()
        yield


@contextmanager
def waiting(path: Path) -> Iterator[None]:
    """Hold a lock file for a moment, waiting for whoever holds it now."""
    with path.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _name_of_this_process() -> str:
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": since})


def _holder(text: str) -> str:
    """The process named in a lock file; between locking and writing the file is briefly empty."""
    if not text:
        return "another process"
    holder = json.loads(text)
    return f"process {holder['pid']} on {holder['host']} since {holder['since']}"
