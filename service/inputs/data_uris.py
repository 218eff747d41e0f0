"""Which data a spec may name: what lies under the allowed roots, links and `..` resolved."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ratchet.pipelines.errors import DataError, Problem
from ratchet.pipelines.files.patterns import (
    Visits,
    has_signs,
    matches,
    may_reach,
    pattern_fault,
    split_pattern,
)

MAX_URI_CHARACTERS = 1024
MAX_FILES = 10_000
MAX_VISITS = 100_000
"""Files and folders that are looked at for all paths of a spec together."""

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


class DataRoots:
    """The places that data may lie at.

    Args:
        roots: Folders, and prefixes of URIs such as `s3://bucket/data`.
        home: The service's own folder. Nothing in it can be named by its path, unless a root lies
            inside: it holds keys and other people's uploads.
        store: The store on S3 that the home is a copy of. It is kept out as the home is.
    """

    def __init__(self, roots: Sequence[str], home: Path, store: str | None = None) -> None:
        self._home = home.resolve()
        self._store = store and store.rstrip("/")
        self._prefixes = tuple(root.rstrip("/") for root in roots if "://" in root)
        local = [Path(root).expanduser().resolve() for root in roots if "://" not in root]
        self._folders = tuple(folder for folder in local if folder != self._home / "files")

    def checked(self, uri: str, where: str, visits: Visits | None = None) -> str | Problem:
        """The URI made absolute, links resolved, or what is wrong with it.

        Args:
            uri: As the spec says it.
            where: The field, for the message.
            visits: Counts what is looked at, over all paths of a spec.
        """
        if len(uri) > MAX_URI_CHARACTERS or _CONTROL.search(uri) or "::" in uri:
            return Problem(
                where, f"not a path or URI of up to {MAX_URI_CHARACTERS} characters", uri[:80]
            )
        fault = pattern_fault(uri)
        if fault is not None:
            return Problem(where, fault, uri)
        scheme = _SCHEME.match(uri)
        if scheme is None or scheme[1].lower() == "file":
            return self._local(uri, where, visits or Visits(MAX_VISITS))
        return self._remote(uri, where)

    def is_allowed_folder(self, path: Path) -> bool:
        """Whether a path is a folder under a root with all that is in it, links resolved."""
        try:
            folder = path.resolve()
            below = _files_below(folder, Visits(MAX_VISITS))
            return self._is_inside(folder) and folder.is_dir() and self._all_inside(below)
        except (OSError, ValueError, RuntimeError):  # too long a name, or links in a ring
            return False

    def _remote(self, uri: str, where: str) -> str | Problem:
        parts = _parts(uri)
        strange = any(sign in uri for sign in "\\@%?#") or {"", ".", ".."} & set(parts[1:])
        holding = [root for root in self._prefixes if uri == root or uri.startswith(f"{root}/")]
        if strange or not holding:
            return self._outside(uri, where)
        if self._store is not None and may_reach(parts, _parts(self._store)):
            within = [root for root in holding if root.startswith(f"{self._store}/")]
            return uri if within else self._too_near(uri, where)
        return uri

    def _local(self, uri: str, where: str, visits: Visits) -> str | Problem:
        path = uri[len("file://") :] if uri.lower().startswith("file://") else uri
        if not path.startswith("/"):
            hint = "Upload the file and name it by its id, or give an absolute path"
            return Problem(
                where, "a path must be absolute: the server knows no folder of yours", uri, hint
            )
        try:
            return self._resolved(path, visits) or self._outside(uri, where)
        except DataError as error:
            return Problem(where, error.problems[0].message, uri, "Name a smaller folder")
        except (OSError, ValueError, RuntimeError):  # too long a name, or links in a ring
            return self._outside(uri, where)

    def _resolved(self, path: str, visits: Visits) -> str | None:
        """The path or pattern with links resolved; None where anything of it lies outside."""
        fixed, pattern = (path, []) if os.path.exists(path) else split_pattern(path)
        base = Path(fixed).resolve()
        if not self._is_inside(base):
            return None
        if pattern:
            return self._resolved_pattern(base, pattern, visits)
        if base.is_dir() and not self._all_inside(_files_below(base, visits)):
            return None
        is_special = base.exists() and not (base.is_dir() or base.is_file())
        would_be_pattern = has_signs(str(base)) and not base.exists()
        return None if is_special or would_be_pattern else str(base)

    def _resolved_pattern(self, base: Path, pattern: Sequence[str], visits: Visits) -> str | None:
        """The pattern below a folder; None where it finds, or could come to find, what is outside.

        Whoever reads it later finds what was found here, unless files were added: of those the
        home's are the only ones that a stranger can add.
        """
        whole = [*base.parts[1:], *pattern]
        could_reach_home = self._home != base and self._home.is_relative_to(base)
        if has_signs(str(base)) or (could_reach_home and may_reach(whole, self._home.parts[1:])):
            return None
        found = matches(str(base), pattern, visits)
        read = (path for path in found if not os.path.isdir(path))
        return os.path.join(base, *pattern) if self._all_inside(read) else None

    def _all_inside(self, paths: Iterable[str]) -> bool:
        some = list(itertools.islice(paths, MAX_FILES + 1))
        return len(some) <= MAX_FILES and all(self._is_inside(Path(p).resolve()) for p in some)

    def _is_inside(self, path: Path) -> bool:
        holding = [folder for folder in self._folders if path.is_relative_to(folder)]
        if path.is_relative_to(self._home):
            holding = [f for f in holding if f != self._home and f.is_relative_to(self._home)]
        return bool(holding)

    def _too_near(self, uri: str, where: str) -> Problem:
        hint = "Name a folder or a pattern that cannot reach it"
        return Problem(where, "the service's own store lies there", uri, hint)

    def _outside(self, uri: str, where: str) -> Problem:
        allowed = ", ".join([*map(str, self._folders), *self._prefixes]) or "uploads alone"
        hint = "Upload the file (POST /v1/files) and name it by its id"
        return Problem(where, f"data may lie under: {allowed}", uri, hint)


def _parts(uri: str) -> list[str]:
    """The scheme of a URI, by one name, then the parts of its path."""
    scheme, _, path = uri.partition("://")
    return [{"s3a": "s3"}.get(scheme, scheme), *path.rstrip("/").split("/")]


def _files_below(folder: Path, visits: Visits) -> Iterable[str]:
    """Everything below a folder; links are named, not followed."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            visits.count()
            yield os.path.join(parent, name)
