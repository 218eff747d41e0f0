"""Patterns of file names: what one may look like, what it finds, and what it could ever find.

`*`, `?` and `[…]` stand for a part of one name, `**` for any number of folders. What stands for a
name never stands for a hidden one, as in a shell. Whoever checks a local pattern and whoever reads
it ask the same function, so that nothing is read that was not checked.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase

from ratchet.pipelines.errors import DataError

MAX_PATTERN_CHARACTERS = 1024
MAX_PATTERN_PARTS = 16
_SIGNS = re.compile(r"[*?\[]")


class Visits:
    """Counts what is looked at for patterns, and ends the search where that is too much.

    Args:
        most: How many files and folders may be looked at.
    """

    def __init__(self, most: float = math.inf) -> None:
        self._most = most
        self._seen = 0

    def count(self) -> None:
        """Note that one more file or folder is looked at.

        Raises:
            DataError: It is one too many.
        """
        self._seen += 1
        if self._seen > self._most:
            raise DataError(f"more than {self._most:,} files and folders lie there or on the way")


def has_signs(path: str) -> bool:
    """Whether a path has a sign of a pattern in it."""
    return _SIGNS.search(path) is not None


def pattern_fault(path: str) -> str | None:
    """What is wrong with a pattern as it is written; None for sound ones and for plain paths."""
    pattern = split_pattern(path)[1]
    if not pattern:
        return None
    if len(path) > MAX_PATTERN_CHARACTERS:
        return f"a pattern has up to {MAX_PATTERN_CHARACTERS} characters"
    if len(pattern) > MAX_PATTERN_PARTS:
        return f"a pattern has up to {MAX_PATTERN_PARTS} parts from its first sign on"
    if ".." in pattern:
        return "a pattern cannot climb: write the folder before its first sign"
    doubled = [part for part in pattern if "**" in part]
    if len(doubled) > 1 or any(part != "**" for part in doubled):
        return "a pattern has `**` once at most, between slashes"
    return None


def split_pattern(path: str) -> tuple[str, list[str]]:
    """The folder before the first sign, and the parts of the pattern in it; none of a plain path.

    It does not know whether something exists under the very name, signs and all, which goes first.
    """
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if has_signs(part)), len(parts))
    pattern = [part for part in parts[first:] if part not in ("", ".")]
    return "/".join(parts[:first]) or ("/" if path.startswith("/") else ""), pattern


def matches(folder: str, pattern: Sequence[str], visits: Visits) -> Iterator[str]:
    """What a pattern finds in a local folder: files, and folders and links where it ends on them.

    `**` follows no links; a folder that may not be looked into holds nothing.

    Args:
        folder: Where the pattern begins.
        pattern: Its parts, `**` once at most.
        visits: Counts what is looked at.

    Raises:
        DataError: Too much lies there.
    """
    waiting: list[tuple[str, Sequence[str]]] = [(folder, pattern)]
    while waiting:
        place, (own, *rest) = waiting.pop()
        is_any_depth = own == "**"
        if is_any_depth and rest:
            waiting.append((place, rest))
        deeper = [own, *rest] if is_any_depth else rest
        for entry in _entries(place):
            visits.count()
            if is_hidden(entry.name) or not (is_any_depth or fnmatchcase(entry.name, own)):
                continue
            if deeper and entry.is_dir(follow_symlinks=not is_any_depth):
                waiting.append((entry.path, deeper))
            elif not rest:
                yield entry.path


def _entries(folder: str) -> Iterator[os.DirEntry[str]]:
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError), os.scandir(folder) as it:
        yield from it


def is_plain_name(name: object) -> bool:
    """Whether a name, read from somebody's file, is of something in the same folder."""
    return isinstance(name, str) and name not in ("", ".", "..") and not {"/", "\\"} & set(name)


def is_hidden(name: str) -> bool:
    """Whether a name is one that patterns pass over."""
    return name.startswith(".")


def may_reach(named: Sequence[str], place: Sequence[str]) -> bool:
    """Whether a path or a pattern may ever name something in a place, or a folder around it.

    Args:
        named: The parts of the path or pattern, from the top.
        place: The parts of the place's path, from the top.
    """
    for index, (own, name) in enumerate(zip(named, place, strict=False)):
        if own == "**":
            return not any(map(is_hidden, place[index:]))
        fits = has_signs(own) and fnmatchcase(name, own) and not is_hidden(name)
        if own != name and not fits:
            return False
    return len(named) > len(place) or not any(map(has_signs, named))
