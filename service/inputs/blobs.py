"""Uploads on the disk: each content once, under its hash, never half."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import BinaryIO, Protocol

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.files.atomic_file import rename_for_good
from ratchet.service.errors import TooLargeError, UnavailableError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt", ".parquet", ".pq")
MAX_FILENAME = 255
CHUNK_BYTES = 1024 * 1024
MIN_FREE_BYTES = 1024**3
"""What uploads leave of the disk, to what else lies there."""


class Stored(Protocol):
    """What tells where a content lies: an upload's record."""

    @property
    def sha256(self) -> str:
        """Hash of the content, in hexadecimal."""
        ...

    @property
    def filename(self) -> str:
        """The client's name for it; its suffix says how it is read."""
        ...


@dataclass(frozen=True)
class Draft:
    """A content that is written and hashed, and not in its place yet."""

    path: Path
    sha256: str
    num_bytes: int


class Blobs:
    """The folder of uploads.

    Args:
        home: The service's folder.
        max_bytes: Size of the largest content.
    """

    def __init__(self, home: Path, max_bytes: int) -> None:
        self._folder = home / "files"
        self._max_bytes = max_bytes
        self._lock = threading.Lock()

    @contextmanager
    def settled(self) -> Generator[None, None, None]:
        """Hold off other changes: a content is kept and noted, or forgotten and removed, as one."""
        with self._lock:
            yield

    def path(self, stored: Stored) -> Path:
        """Where a content lies."""
        return self._place(stored.sha256, stored.filename)

    def _place(self, sha256: str, filename: str) -> Path:
        suffix = PurePath(filename).suffix.lower()
        return self._folder / sha256[:2] / f"{sha256}{suffix}"

    def check_room(self) -> None:
        """Make sure that an upload of any size would leave room on the disk.

        Raises:
            UnavailableError: The disk is needed for what is there: jobs, and the database.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(self._folder).free < MIN_FREE_BYTES + self._max_bytes:
            raise UnavailableError("file: the service's disk is almost full; uploads wait for room")

    @contextmanager
    def draft(self, source: Iterator[bytes]) -> Generator[Draft, None, None]:
        """Write a content aside while it is looked at; it is gone afterwards unless it was kept.

        Raises:
            TooLargeError: It is longer than contents may be; nothing is left of it.
            UnavailableError: As `check_room`.
        """
        incoming = self._folder / "incoming"
        incoming.mkdir(parents=True, exist_ok=True)
        self.check_room()
        path = incoming / secrets.token_hex(12)
        try:
            with path.open("xb") as file:
                yield self._written(path, file, source)
        finally:
            path.unlink(missing_ok=True)

    def _written(self, path: Path, file: BinaryIO, source: Iterator[bytes]) -> Draft:
        digest, count = hashlib.sha256(), 0
        for chunk in source:
            count += len(chunk)
            if count > self._max_bytes:
                raise TooLargeError(f"file: more than {self._max_bytes} bytes", "file")
            digest.update(chunk)
            file.write(chunk)
        file.flush()
        os.fsync(file.fileno())
        return Draft(path, digest.hexdigest(), count)

    def keep(self, draft: Draft, filename: str) -> Path:
        """Move a content to its place; the same one may be there already."""
        path = self._place(draft.sha256, filename)
        path.parent.mkdir(exist_ok=True)
        rename_for_good(draft.path, path)
        return path

    def remove(self, stored: Stored) -> None:
        """Remove a content."""
        self.path(stored).unlink(missing_ok=True)


def chunks(file: BinaryIO) -> Iterator[bytes]:
    """The rest of a file in pieces."""
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def filename_problem(name: str) -> Problem | None:
    """What is wrong with the name of an upload."""
    allowed = ", ".join(SUFFIXES)
    if not name or len(name) > MAX_FILENAME or not name.isprintable() or set(name) & set("/\\"):
        return Problem("", f"a file name has 1 to {MAX_FILENAME} characters and no folder", name)
    if PurePath(name).suffix.lower() not in SUFFIXES:
        return Problem("", f"read are files that end in {allowed}", name)
    return None
