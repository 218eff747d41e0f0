"""What the attempts of a job printed, read from the job's folder in pieces."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

from ratchet.service.errors import NotStoredError
from ratchet.service.schemas.jobs import LogPage
from ratchet.service.store.records import Job


def read_log(home: Path, job: Job, attempt: int | None, offset: int, limit: int) -> LogPage:
    """A piece of an attempt's log; empty where nothing was printed yet.

    Args:
        home: The service's folder.
        job: The job as it is now.
        attempt: Which attempt; the present one if None.
        offset: Where to read from, in bytes.
        limit: How much to read at most, in bytes.

    Raises:
        NotStoredError: There was no such attempt.
    """
    number = job.attempt if attempt is None else attempt
    if number > job.attempt:
        raise NotStoredError(f"attempt: {job.id} has had {job.attempt}", "attempt")
    path = home / "jobs" / job.id / f"driver-{number}.log"
    if path.is_symlink():
        raise NotStoredError(f"attempt: the log of {job.id}-{number} is no file", "attempt")
    piece = _read(path, offset, limit)
    is_over = job.has_ended or number < job.attempt or (job.status != "running" and number > 0)
    text, length = _decoded(piece, is_final=is_over and len(piece) < limit)
    ended = is_over and len(piece) < limit
    return LogPage(attempt=number, text=text, next_offset=offset + length, ended=ended)


def _read(path: Path, offset: int, limit: int) -> bytes:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return b""
    with os.fdopen(handle, "rb") as file:
        file.seek(offset)
        return file.read(limit)


def _decoded(piece: bytes, *, is_final: bool) -> tuple[str, int]:
    """The text of a piece and how many of its bytes that is: a character is never cut in two."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    text = decoder.decode(piece, final=is_final)
    waiting = len(decoder.getstate()[0])
    return text, len(piece) - waiting
