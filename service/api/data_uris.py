"""Which data a spec may name: what lies under the allowed roots, links and `..` resolved."""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipelines.errors import Problem

MAX_URI_CHARACTERS = 1024
MAX_FILES = 10_000

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MAGIC = re.compile(r"[*?\[]")


class DataRoots:
    """The places that data may lie at.

    Args:
        roots: Folders, and prefixes of URIs such as `s3://bucket/data`.
        home: The service's own folder. Nothing in it can be named by its path, unless a root lies
            inside: it holds keys and other people's uploads.
    """

    def __init__(self, roots: Sequence[str], home: Path) -> None:
        self._home = home.resolve()
        self._prefixes = tuple(root.rstrip("/") for root in roots if "://" in root)
        local = [Path(root).expanduser().resolve() for root in roots if "://" not in root]
        self._folders = tuple(folder for folder in local if folder != self._home / "files")

    def checked(self, uri: str, where: str) -> str | Problem:
        """The URI made absolute, links resolved, or what is wrong with it.

        Args:
            uri: As the spec says it.
            where: The field, for the message.
        """
        if len(uri) > MAX_URI_CHARACTERS or _CONTROL.search(uri) or "::" in uri:
            return Problem(
                where, f"not a path or URI of up to {MAX_URI_CHARACTERS} characters", uri[:80]
            )
        scheme = _SCHEME.match(uri)
        if scheme is None or scheme[1].lower() == "file":
            return self._local(uri, where)
        return self._remote(uri, where)

    def is_allowed_folder(self, path: Path) -> bool:
        """Whether a folder, links resolved, lies under a root."""
        return self._is_inside(path.resolve())

    def _remote(self, uri: str, where: str) -> str | Problem:
        strange = any(sign in uri for sign in "\\@%?#") or ".." in uri.split("/")
        inside = any(uri == root or uri.startswith(f"{root}/") for root in self._prefixes)
        return self._outside(uri, where) if strange or not inside else uri

    def _local(self, uri: str, where: str) -> str | Problem:
        path = uri[len("file://") :] if uri.lower().startswith("file://") else uri
        if not path.startswith("/"):
            hint = "Upload the file and name it by its id, or give an absolute path"
            return Problem(
                where, "a path must be absolute: the server knows no folder of yours", uri, hint
            )
        try:
            return self._resolved(path) or self._outside(uri, where)
        except (OSError, ValueError, RuntimeError):  # too long a name, or links in a ring
            return self._outside(uri, where)

    def _resolved(self, path: str) -> str | None:
        """The path or pattern with links resolved; None where anything of it lies outside."""
        fixed, pattern = _split_pattern(path)
        base = Path(fixed).resolve()
        if not self._is_inside(base):
            return None
        if pattern:
            whole = f"{base}/{pattern}"
            found: Iterable[str] = glob.iglob(whole, recursive=True)
            return whole if self._all_inside(found) else None
        if base.is_dir() and not self._all_inside(_files_below(base)):
            return None
        is_special = base.exists() and not (base.is_dir() or base.is_file())
        return None if is_special else str(base)

    def _all_inside(self, paths: Iterable[str]) -> bool:
        some = list(itertools.islice(paths, MAX_FILES + 1))
        return len(some) <= MAX_FILES and all(self._is_inside(Path(p).resolve()) for p in some)

    def _is_inside(self, path: Path) -> bool:
        holding = [folder for folder in self._folders if path.is_relative_to(folder)]
        if path.is_relative_to(self._home):
            holding = [f for f in holding if f != self._home and f.is_relative_to(self._home)]
        return bool(holding)

    def _outside(self, uri: str, where: str) -> Problem:
        allowed = ", ".join([*map(str, self._folders), *self._prefixes]) or "uploads alone"
        hint = "Upload the file (POST /v1/files) and name it by its id"
        return Problem(where, f"data may lie under: {allowed}", uri, hint)


def _split_pattern(path: str) -> tuple[str, str]:
    """The folder before the first pattern sign, and the pattern in it.

    Raises:
        ValueError: The pattern climbs.
    """
    parts = path.split("/")
    first = next((i for i, part in enumerate(parts) if _MAGIC.search(part)), len(parts))
    pattern = parts[first:]
    if ".." in pattern:
        raise ValueError(f"a pattern cannot climb: {path}")
    return "/".join(parts[:first]) or "/", "/".join(pattern)


def _files_below(folder: Path) -> Iterable[str]:
    """Everything below a folder; links are named, not followed."""
    for parent, folders, files in os.walk(folder):
        yield from (os.path.join(parent, name) for name in (*folders, *files))
