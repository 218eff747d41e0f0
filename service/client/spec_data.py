"""The spec of a submission: read from wherever it comes, its local data files found."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import Problem, SpecError

if TYPE_CHECKING:
    from pipelines.config import UpdateSpec

SPLITS = ("train", "validation", "test")
FILE_ID = "file-"
PATTERN = "*?["


@dataclass(frozen=True)
class DataPlace:
    """A data file that a spec names.

    Attributes:
        section: The part of the spec that names it, to be changed in place.
        field: The name's key in that part.
        path: The file on this machine.
        where: The field's path, for messages.
    """

    section: dict[str, Any]
    field: str
    path: Path
    where: str


def read_spec(spec: str | Path | Mapping[str, Any] | UpdateSpec) -> tuple[dict[str, Any], Path]:
    """A spec as plain values that the caller may change, and the folder its paths start from.

    Raises:
        SpecError: The file cannot be read or holds no spec.
    """
    if isinstance(spec, str | Path):
        from pipelines.yaml_file import read_yaml

        raw, folder = read_yaml(Path(spec)), Path(spec).resolve().parent
    elif isinstance(spec, Mapping):
        raw, folder = deepcopy(dict(spec)), Path.cwd()
    else:
        from pipelines.config import spec_as_dict

        raw, folder = dict(spec_as_dict(spec)), Path.cwd()
    if not isinstance(raw, dict):
        hint = "Start from `ratchet schema --example`"
        raise SpecError([Problem("", "a spec is a mapping of fields", raw, hint)])
    return raw, folder


def local_data(raw: dict[str, Any], folder: Path) -> list[DataPlace]:
    """Every data file that a spec names on this machine; uploads and URIs are left out.

    Raises:
        SpecError: Files that do not exist, all at once.
    """
    found, problems = [], []
    for where, section, field in _named(raw):
        value = section[field]
        if not isinstance(value, str) or value.startswith(FILE_ID) or "://" in value:
            continue
        path = folder / value
        found.append(DataPlace(section, field, path, where))
        if not path.is_file():
            problems.append(_missing(where, value, path))
    if problems:
        raise SpecError(problems)
    return found


def make_absolute(raw: dict[str, Any], folder: Path) -> None:
    """Have every relative path begin at the root, for a service that sees the same files."""
    for _, section, field in _named(raw):
        value = section[field]
        if isinstance(value, str) and not value.startswith(FILE_ID) and "://" not in value:
            section[field] = str((folder / value).absolute())


def _missing(where: str, value: str, path: Path) -> Problem:
    if any(sign in value for sign in PATTERN) and glob.glob(str(path)):
        hint = "Name one file, or let the service read them where they are (no upload)"
        return Problem(where, "several files are not uploaded", value, hint)
    return Problem(where, "there is no such file", value, f"Looked for {path}")


def _named(raw: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Each field of a spec that names data: its path, the part that holds it, its key."""
    tasks = raw.get("tasks")
    sections: list[tuple[str, Any, tuple[str, ...]]] = [
        (f"tasks[{place}]", task, SPLITS)
        for place, task in enumerate(tasks if isinstance(tasks, list) else ())
    ]
    sections.append(("stream", raw.get("stream"), SPLITS))
    evaluation = raw.get("evaluation")
    if isinstance(evaluation, dict):
        sections.append(("evaluation.retention", evaluation.get("retention"), SPLITS[::2]))
    for where, section, fields in sections:
        if isinstance(section, dict):
            yield from ((f"{where}.{name}", section, name) for name in fields if name in section)
