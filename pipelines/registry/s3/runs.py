"""What a store keeps of an unfinished run, so that another machine goes on with it.

runs/<lineage>/<run>/checkpoints/<name>.<upload>/...            a checkpoint's files
runs/<lineage>/<run>/checkpoints/<name>.<upload>/complete.json  their hashes; written last
runs/<lineage>/<run>/result.json                                what a written version gave
"""

from __future__ import annotations

import json
import logging
import shutil
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ratchet.pipelines.errors import ObjectStoreError, ObjectStoreUnreachableError
from ratchet.pipelines.files.atomic_file import put_on_disk, rename_for_good
from ratchet.pipelines.files.formats import checked
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.registry.manifest import file_hash, inside
from ratchet.pipelines.registry.s3.address import RunAddress
from ratchet.pipelines.registry.s3.location import ObjectStoreLocation
from ratchet.pipelines.registry.s3.objects import ObjectStore
from ratchet.pipelines.registry.s3.versions import fetch_file

FOLDER = "runs"
CHECKPOINTS = "checkpoints"
MARKER_FILE = "complete.json"
RESULT_FILE = "result.json"
KEPT = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Marker:
    """What ends the upload of a checkpoint: the hash of its data, and of each file."""

    data: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class RemoteRun:
    """An unfinished run in a store.

    Attributes:
        store: The store.
        address: Which run.
    """

    store: ObjectStore
    address: RunAddress

    def upload_checkpoint(self, folder: Path) -> None:
        """Upload a complete checkpoint, then remove all but the last two.

        Each upload has a place of its own, so that two machines never mix their files.

        Args:
            folder: The checkpoint's; names ascend from one to the next.
        """
        name = f"{folder.name}.{uuid.uuid4().hex[:12]}"
        files: dict[str, str] = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                relative = path.relative_to(folder).as_posix()
                files[relative] = file_hash(path)
                self.store.upload(path, f"{self._checkpoints}/{name}/{relative}")
        marker = json.dumps({"data": self.address.data, "files": files}).encode()
        self.store.put(f"{self._checkpoints}/{name}/{MARKER_FILE}", marker)
        for old in self._complete()[:-KEPT]:
            self._remove(old)

    def fetch_checkpoint(self, folder: Path) -> Path | None:
        """Fetch the newest checkpoint of the same data whose every file is as it was written.

        Args:
            folder: Where its own folder goes, whole or not at all.

        Returns:
            Its folder, or None where there is none.

        Raises:
            ObjectStoreUnreachableError: The store is away.
        """
        for name in reversed(self._complete()):
            marker = self._marker(name)
            if marker is None or marker.data != self.address.data:
                self._remove(name)
                continue
            try:
                return self._fetch(name, marker.files, folder)
            except ObjectStoreUnreachableError:
                raise
            except ObjectStoreError as error:
                _log.warning("The checkpoint %s is left out: %s", name, error)
        return None

    def keep_result(self, result: JsonObject) -> None:
        """Keep what a version gave that is about to be written."""
        self.store.put(f"{self._folder}/{RESULT_FILE}", json.dumps(result).encode())

    def result(self) -> JsonObject | None:
        """What `keep_result` kept."""
        found = self.store.read(f"{self._folder}/{RESULT_FILE}")
        return None if found is None else json.loads(found.body)

    def discard(self) -> None:
        """Remove everything of the run."""
        self.store.delete(self._folder, self.store.names(self._folder))

    @property
    def _folder(self) -> str:
        return f"{FOLDER}/{self.address.lineage}/{self.address.run}"

    @property
    def _checkpoints(self) -> str:
        return f"{self._folder}/{CHECKPOINTS}"

    def _complete(self) -> list[str]:
        """Names of the checkpoints whose upload came to its end, oldest first."""
        end = f"/{MARKER_FILE}"
        names = self.store.names(self._checkpoints)
        return sorted(name.removesuffix(end) for name in names if name.endswith(end))

    def _marker(self, name: str) -> _Marker | None:
        place = f"{self._checkpoints}/{name}/{MARKER_FILE}"
        found = self.store.read(place)
        hint = "remove it from the store"
        return None if found is None else checked(_Marker, json.loads(found.body), place, hint)

    def _remove(self, name: str) -> None:
        """Remove a checkpoint, its marker first: what is left of it then counts for nothing."""
        folder = f"{self._checkpoints}/{name}"
        self.store.delete(folder, [MARKER_FILE])
        self.store.delete(folder, self.store.names(folder))

    def _fetch(self, name: str, files: Mapping[str, str], folder: Path) -> Path:
        draft = folder / f".fetching_{name}"
        target = folder / name.rpartition(".")[0]
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        try:
            for relative, expected in files.items():
                path = inside(draft.resolve(), relative)
                path.parent.mkdir(parents=True, exist_ok=True)
                fetch_file(self.store, f"{self._checkpoints}/{name}/{relative}", expected, path)
            put_on_disk(draft)
            rename_for_good(draft, target)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return target


def open_run(address: RunAddress) -> RemoteRun:
    """The run at an address, through a client of this process."""
    return RemoteRun(ObjectStore(ObjectStoreLocation.parse(address.store)), address)
