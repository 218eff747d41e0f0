"""Which store a home is a copy of: one line in a file, so that every process there agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.pipelines.errors import ObjectStoreError, Problem, SpecError, VersionError
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.registry.s3.location import ObjectStoreLocation

if TYPE_CHECKING:
    from ratchet.pipelines.registry.s3.versions import RemoteVersions

FILE_NAME = "store.json"
FORMAT = 1


def attach_object_store(home: Path, uri: str) -> None:
    """Make a home a copy of what lies in a store; one that is already stays so.

    The store is asked whether it keeps its promises, once a home: that what was written once is
    not overwritten by who thinks it new.

    Args:
        home: The folder that keeps state here. It is made where it does not exist.
        uri: `s3://BUCKET/PREFIX`.

    Raises:
        SpecError: No such URI, or the home is a copy of another store or has versions of its own.
        ObjectStoreError: The store cannot be used, or ignores conditions.
    """
    location = ObjectStoreLocation.parse(uri)
    known = attached_store(home)
    if known == location:
        return
    if known is not None:
        message = f"the home {home} is a copy of {known}"
        raise SpecError([Problem("store", message, uri, "Use that store, or another home")])
    if any((home / "versions").glob("*/[0-9]*")):
        message = f"the home {home} has versions that are in no store"
        hint = "Use another home; versions that are here already cannot be moved to a store"
        raise SpecError([Problem("store", message, uri, hint)])
    _check_promises(location)
    home.mkdir(parents=True, exist_ok=True)
    content = {"format": FORMAT, "store": str(location)}
    write_atomically(home / FILE_NAME, json.dumps(content) + "\n")


def attached_store(home: Path) -> ObjectStoreLocation | None:
    """The store that a home is a copy of, or None where it keeps its state itself.

    Raises:
        VersionError: The file that says so is broken.
    """
    path = home / FILE_NAME
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        return ObjectStoreLocation.parse(content["store"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise VersionError(
            f"{path} does not say which store this home is a copy of ({error!r}). Remove the home, "
            "which is only a copy, and name the store again"
        ) from error


def remote_versions(home: Path) -> RemoteVersions | None:
    """The versions in the store of a home, or None where it has none."""
    location = attached_store(home)
    if location is None:
        return None
    _check_installed()
    from ratchet.pipelines.registry.s3.objects import ObjectStore
    from ratchet.pipelines.registry.s3.versions import RemoteVersions

    return RemoteVersions(ObjectStore(location), home / "versions")


def _check_promises(location: ObjectStoreLocation) -> None:
    _check_installed()
    from ratchet.pipelines.registry.s3.objects import ObjectStore
    from ratchet.pipelines.registry.s3.probe import check_conditions

    check_conditions(ObjectStore(location))


def _check_installed() -> None:
    """Say which extra is missing, instead of which module."""
    from importlib.util import find_spec

    if find_spec("boto3") is None:
        raise ObjectStoreError("state on S3 needs boto3: pip install '.[s3]' in Ratchet's folder")
