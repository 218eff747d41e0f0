"""Where data lies: a URI made into the files to read, local or through fsspec."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.spec import AbstractFileSystem

from ratchet.pipelines.data.readers import PLAIN_SUFFIXES, READERS, format_suffix
from ratchet.pipelines.errors import Problem, is_passing
from ratchet.pipelines.files.patterns import (
    Visits,
    has_signs,
    is_hidden,
    matches,
    pattern_fault,
    split_pattern,
)

ALLOWED_SCHEMES = ("file", "memory", "s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "hdfs")
_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*)(://|::)")


@dataclass(frozen=True)
class Location:
    """Files that hold one split.

    Attributes:
        filesystem: The file system they lie on.
        files: Paths on it, sorted; of a saved Hugging Face data set, its folder alone.
        is_saved_dataset: Whether it is a folder written by `save_to_disk`.
    """

    filesystem: AbstractFileSystem
    files: tuple[str, ...]
    is_saved_dataset: bool = False

    def estimated_text_bytes(self) -> int:
        """Bytes of the rows once unpacked, roughly: packed files are taken five times."""
        if self.is_saved_dataset:
            return sum(self._size(path) for path in self.filesystem.find(self.files[0]))
        return sum(self._size(path) * (5 if _is_packed(path) else 1) for path in self.files)

    def _size(self, path: str) -> int:
        return int(self.filesystem.size(path) or 0)

    def shown(self, path: str) -> str:
        """A file's name for messages, with its scheme unless it is local."""
        protocol = self.filesystem.protocol
        scheme = protocol if isinstance(protocol, str) else protocol[0]
        return path if scheme in ("file", "local") else self.filesystem.unstrip_protocol(path)


def _is_packed(path: str) -> bool:
    return not path.lower().endswith(PLAIN_SUFFIXES)


def locate(uri: str) -> Location | Problem:
    """The files that `uri` (a file, a folder or a glob) stands for, or what is wrong with it."""
    match = _SCHEME.match(uri)
    if match and (match[2] == "::" or match[1].lower() not in ALLOWED_SCHEMES):
        return Problem(
            "",
            "data may lie under a local path or under one of "
            + ", ".join(f"{scheme}://" for scheme in ALLOWED_SCHEMES),
            uri,
            "Copy the data to one of these",
        )
    fault = pattern_fault(uri)
    if fault is not None:
        return Problem(uri, fault)
    try:
        filesystem, path = fsspec.url_to_fs(uri)
        return _files_at(uri, filesystem, path)
    except ImportError as error:
        return Problem(uri, f"the scheme needs a package that is not installed: {error}")
    except OSError as error:
        if is_passing(error):
            raise
        return Problem(uri, f"the data cannot be listed: {error}")


def _files_at(uri: str, filesystem: AbstractFileSystem, path: str) -> Location | Problem:
    if filesystem.isfile(path):
        return _of_one_format(uri, filesystem, [path])
    if filesystem.isdir(path):
        return _files_in_folder(uri, filesystem, path)
    if has_signs(path):
        found = [name for name in _matching(filesystem, path) if filesystem.isfile(name)]
        return _of_one_format(uri, filesystem, sorted(found))
    _look_again(filesystem, path)
    return Problem(uri, "no such file or folder", hint="Paths are relative to the spec's file")


def _matching(filesystem: AbstractFileSystem, path: str) -> Iterable[str]:
    """What a pattern finds; nothing hidden below the folder that it begins in."""
    folder, pattern = split_pattern(path)
    if isinstance(filesystem, LocalFileSystem):
        return matches(folder, pattern, Visits())
    found = map(str, filesystem.glob(path))
    return (
        name
        for name in found
        if not any(map(is_hidden, name.removeprefix(f"{folder}/").split("/")))
    )


def _look_again(filesystem: AbstractFileSystem, path: str) -> None:
    """Raise what keeps a path from being looked at: `isfile` and `isdir` say no to that, too."""
    with suppress(FileNotFoundError, NotADirectoryError):
        filesystem.info(path)


def _files_in_folder(uri: str, filesystem: AbstractFileSystem, path: str) -> Location | Problem:
    folder = path.rstrip("/")
    if filesystem.exists(f"{folder}/dataset_dict.json"):
        splits = [name for name in filesystem.ls(folder, detail=False) if filesystem.isdir(name)]
        names = ", ".join(sorted(str(name).rsplit("/", 1)[-1] for name in splits))
        return Problem(
            uri, f"this saved data set holds several splits: {names}", hint=f"Name one: {uri}/train"
        )
    if filesystem.exists(f"{folder}/dataset_info.json") and filesystem.exists(
        f"{folder}/state.json"
    ):
        return Location(filesystem, (folder,), is_saved_dataset=True)
    found = [name for name in filesystem.find(folder) if _is_data(str(name).removeprefix(folder))]
    # Beside data of another format, a text file is a note on it.
    found = [name for name in found if format_suffix(str(name)) != ".txt"] or found
    return _of_one_format(uri, filesystem, sorted(map(str, found)))


def _is_data(path: str) -> bool:
    """Whether a file in a folder is meant to be read: not hidden, of a known format."""
    hidden = any(part.startswith((".", "_")) for part in path.strip("/").split("/"))
    return not hidden and format_suffix(path) is not None


def _of_one_format(
    uri: str, filesystem: AbstractFileSystem, files: Sequence[str]
) -> Location | Problem:
    suffixes = sorted({format_suffix(path) or "" for path in files})
    if not files:
        return Problem(uri, f"no data files there; read are {', '.join(READERS)}")
    if "" in suffixes:
        strange = next(path for path in files if format_suffix(path) is None)
        return Problem(uri, f"unknown file format; read are {', '.join(READERS)}", strange)
    if len({READERS[suffix] for suffix in suffixes}) > 1:
        return Problem(
            uri,
            "files of several formats lie there, and some may be copies of others",
            suffixes,
            "Name one format with a glob, for example `folder/*.parquet`",
        )
    return Location(filesystem, tuple(files))
