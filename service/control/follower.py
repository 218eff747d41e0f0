"""Reads a job's journal from where the database stopped: whole lines only, garbage passed over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from ratchet.service.driver.journal import Line
from ratchet.service.schemas.jobs import Progress
from ratchet.service.store.records import NewEvent

CHUNK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Heard:
    """What a job said between two offsets.

    Attributes:
        told: What is worth keeping, oldest first.
        to_offset: Where the next look begins.
        phase: Where the job is, or None where that was not said.
        progress: How far it is, or None where that was not said.
        is_all: Whether there was nothing more to read.
    """

    told: tuple[NewEvent, ...]
    to_offset: int
    phase: str | None
    progress: Progress | None
    is_all: bool


def hear(path: Path, from_offset: int, attempt: int) -> Heard:
    """Read on in a journal.

    Lines of other attempts are passed over: one that lost its fence has nothing more to say.

    Args:
        path: The journal.
        from_offset: Where the last look ended, in bytes.
        attempt: The attempt that runs.
    """
    chunk = _chunk(path, from_offset)
    end = chunk.rfind(b"\n") + 1
    if end == 0:  # nothing, a line still being written, or one too long to be one of ours
        skipped = len(chunk) if len(chunk) == CHUNK_BYTES else 0
        return Heard((), from_offset + skipped, None, None, skipped == 0)
    told: list[NewEvent] = []
    phase, progress = None, None
    for text in chunk[:end].splitlines():
        line = Line.parse(text)
        if line is None or line.attempt != attempt:
            continue
        phase = line.phase or phase
        if line.type == "progress":
            progress = _progress(line) or progress
        else:
            told.append(_event(line))
    return Heard(tuple(told), from_offset + end, phase, progress, len(chunk) < CHUNK_BYTES)


def _chunk(path: Path, offset: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            return file.read(CHUNK_BYTES)
    except FileNotFoundError:
        return b""


def _progress(line: Line) -> Progress | None:
    """How far the job is; None where the line does not say it as drivers do."""
    try:
        return Progress.model_validate(line.data)
    except ValidationError:
        return None


def _event(line: Line) -> NewEvent:
    assert line.type != "progress", "the caller has sorted these out"
    data = {**(line.data or {}), "attempt": line.attempt}
    data |= {} if line.phase is None else {"phase": line.phase}
    return NewEvent(line.message[:2000], line.level, line.type, data, line.time)
