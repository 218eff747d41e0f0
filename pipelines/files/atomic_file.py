"""Files that readers see whole, the old content or the new, and that a loss of power leaves so."""

from __future__ import annotations

import os
import uuid
from pathlib import Path


def put_on_disk(folder: Path) -> None:
    """Make sure that a folder and every file below it are on the disk, not only on their way.

    Whoever names a folder only afterwards never finds it with files that are cut short.

    Args:
        folder: The folder; nobody writes into it meanwhile.
    """
    for parent, _, files in os.walk(folder):
        for name in files:
            _sync(os.path.join(parent, name))
        _sync(parent)


def rename_for_good(source: Path, target: Path) -> None:
    """Give a folder or file its name, and bring the name to the disk.

    Args:
        source: What is on the disk already (`put_on_disk`).
        target: Its name, in a folder that exists; nothing but the same file has it yet.
    """
    source.rename(target)
    _sync(target.parent)


def _sync(path: str | Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, text: str) -> None:
    """Replace a file's content in one step that survives a crash at any moment.

    Args:
        path: The file; its folder must exist.
        text: The whole new content, written as UTF-8.
    """
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
