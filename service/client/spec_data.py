# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""The spec of a submission: read from wherever it comes, its local data files found."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.service.schemas.file_ids import FILE_PREFIX

if TYPE_CHECKING:
    from ratchet.pipelines.files.json_value import Json, JsonObject
    from ratchet.pipelines.spec.update_spec import UpdateSpec
    from ratchet.service.inputs.spec_paths import NamedPath

PATTERN = "*?["


def read_spec(spec: str | Path | Mapping[str, Json] | UpdateSpec) -> tuple[JsonObject, Path]:
    """A spec as plain values that the caller may change, and the folder its paths start from.

    Raises:
        SpecError: The file cannot be read or holds no spec.
    """
    if isinstance(spec, str | Path):
        from ratchet.pipelines.files.yaml_file import read_yaml

        raw, folder = read_yaml(Path(spec)), Path(spec).resolve().parent
    elif isinstance(spec, Mapping):
        raw, folder = deepcopy(dict(spec)), Path.cwd()
    else:
        from ratchet.pipelines.spec.update_spec import spec_as_dict

        raw, folder = dict(spec_as_dict(spec)), Path.cwd()
    if not isinstance(raw, dict):
        hint = "Start from `ratchet schema --example`"
        raise SpecError([Problem("", "a spec is a mapping of fields", raw, hint)])
    return raw, folder


def local_data(raw: JsonObject, folder: Path) -> list[tuple[NamedPath, Path]]:
    """Every place that names a data file of this machine, and the file; no uploads and no URIs.

    Raises:
        SpecError: Files that do not exist, patterns and folders, all at once.
    """
    found: list[tuple[NamedPath, Path]] = []
    problems: list[Problem] = []
    for place in _local(raw):
        path = folder / place.value
        found.append((place, path))
        if not path.is_file():
            problems.append(_missing(place.where, place.value, path))
    if problems:
        raise SpecError(problems)
    return found


def make_absolute(raw: JsonObject, folder: Path) -> None:
    """Have every relative path begin at the root, for a service that sees the same files."""
    for place in _local(raw):
        place.put(str((folder / place.value).absolute()))


def place_model(raw: JsonObject, folder: Path) -> None:
    """Have the path of a model's folder begin at the root; models are never uploaded."""
    model = raw.get("model")
    name = model.get("name") if isinstance(model, dict) else None
    if isinstance(model, dict) and isinstance(name, str):
        here = folder / name
        if name.startswith(("./", "../")) or ("/" in name and here.is_dir()):
            model["name"] = str(here.absolute())


def _local(raw: JsonObject) -> list[NamedPath]:
    """Each place of a spec that names a path of this machine."""
    from ratchet.service.inputs.spec_paths import data_paths

    return [
        place
        for place in data_paths(raw)
        if not place.value.startswith(FILE_PREFIX) and "://" not in place.value
    ]


def _missing(where: str, value: str, path: Path) -> Problem:
    hint = "Name one file, or let the service read them where they are (--no-upload)"
    if path.is_dir():
        return Problem(where, "a folder is not uploaded", value, hint)
    if any(sign in value for sign in PATTERN) and glob.glob(str(path)):
        return Problem(where, "several files are not uploaded", value, hint)
    return Problem(where, "there is no such file", value, f"Looked for {path}")
