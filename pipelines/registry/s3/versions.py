"""Versions and aliases in a store, and their copies here.

versions/<lineage>/<number>/claim.json      who writes this number; written once
versions/<lineage>/<number>/...             the version's files
versions/<lineage>/<number>/manifest.json   written once, last: no manifest, no version
versions/<lineage>/aliases.json             replaced only by who knows what it said
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from ratchet.pipelines.errors import BusyError, NotFoundError, ObjectStoreError
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.lock import waiting
from ratchet.pipelines.registry.aliases import FILE_NAME as ALIASES_FILE
from ratchet.pipelines.registry.aliases import Aliases, aliases_text, parse_aliases
from ratchet.pipelines.registry.manifest import (
    MANIFEST_FILE,
    Manifest,
    file_hash,
    inside,
    read_manifest,
)
from ratchet.pipelines.registry.s3.objects import Found, ObjectStore

FOLDER = "versions"
CLAIM_FILE = "claim.json"
CLAIMS_FOLDER = ".claims"
FETCHING_FOLDER = ".fetching"
NUM_CHANGES_TRIED = 30
PAUSE_SECONDS = 0.05


class RemoteVersions:
    """What a registry knows of a store.

    The layout:
    Args:
        store: Where the versions lie.
        cache: The folder of their copies here: `<lineage>/<number>/`. What is missing or wrong in
            it is fetched again.
    """

    def __init__(self, store: ObjectStore, cache: Path) -> None:
        self.store = store
        self.cache = cache

    def lineages(self) -> list[str]:
        """The lineages in the store, by name."""
        return [name for name in self.store.folders(FOLDER) if not name.startswith(".")]

    def numbers(self, lineage: str) -> list[int]:
        """The numbers of the whole versions of a lineage, ascending; their manifests are here."""
        return [number for number in self._claimed(lineage) if self._has_manifest(lineage, number)]

    def manifest(self, lineage: str, number: int) -> Manifest:
        """What a version says of itself; fetched where it is not here.

        Raises:
            NotFoundError: The store holds no such version.
        """
        if not self._has_manifest(lineage, number):
            raise NotFoundError(f"{lineage}@{number}: there is no such version in {self._at()}")
        return read_manifest(self.cache / lineage / str(number))

    def fetch(self, lineage: str, number: int) -> Path:
        """The folder of a version with every file, each checked against its hash.

        Raises:
            NotFoundError: The store holds no such version.
            ObjectStoreError: A file is missing in the store, or not what its manifest says.
        """
        manifest = self.manifest(lineage, number)
        folder = self.cache / lineage / str(number)
        with waiting(self.cache / lineage / ".fetch.lock"):
            draft = self.cache / lineage / FETCHING_FOLDER
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            for name, expected in manifest.files.items():
                target = inside(folder.resolve(), name)
                if not target.is_file() or file_hash(target) != expected:
                    key = f"{FOLDER}/{lineage}/{number}/{name}"
                    fetch_file(self.store, key, expected, draft / "file")
                    target.parent.mkdir(parents=True, exist_ok=True)
                    (draft / "file").replace(target)
        return folder

    def claim(self, lineage: str) -> int:
        """Claim the next number of a lineage; no two callers anywhere get the same one."""
        number = max(self._claimed(lineage), default=0)
        while True:
            number += 1
            claim = json.dumps(_claimant()).encode()
            if self.store.create(f"{FOLDER}/{lineage}/{number}/{CLAIM_FILE}", claim):
                break
        kept = self._claim_here(lineage, number)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, claim.decode())
        return number

    def publish(self, lineage: str, number: int) -> None:
        """Upload the version that lies here under a number that was claimed from here.

        Done again after an interruption, it goes on; done again after its end, it does nothing.

        Raises:
            BusyError: The number was not claimed from here, or another version has it.
        """
        folder = self.cache / lineage / str(number)
        key = f"{FOLDER}/{lineage}/{number}"
        body = (folder / MANIFEST_FILE).read_bytes()
        found = self.store.read(f"{key}/{MANIFEST_FILE}")
        if found is not None and found.body == body:
            return
        if found is not None or not self._claim_here(lineage, number).is_file():
            raise BusyError(
                f"{lineage}@{number} lies in {folder} and may not be written to {self._at()}: the "
                "number belongs to another version. Remove the folder and run the update again"
            )
        for name in read_manifest(folder).files:
            self.store.upload(folder / name, f"{key}/{name}")
        if not self.store.create(f"{key}/{MANIFEST_FILE}", body):
            raise BusyError(f"{lineage}@{number}: another writer finished it in {self._at()}")

    def aliases(self, lineage: str) -> Aliases:
        """The aliases of a lineage as they are in the store now; a copy of them is kept here."""
        return self._parsed(lineage, self.store.read(_aliases_key(lineage)))

    def change_aliases(self, lineage: str, change: Callable[[Aliases], Aliases]) -> Aliases:
        """Replace the aliases by what a function makes of them, unless somebody else just did.

        Then the function is asked again, about what they say now.

        Raises:
            ObjectStoreUnreachableError: The store is away.
            ObjectStoreError: Others changed them again and again.
        """
        key = _aliases_key(lineage)
        for attempt in range(NUM_CHANGES_TRIED):
            found = self.store.read(key)
            known = self._parsed(lineage, found)
            wanted = change(known)
            if wanted == known:
                return known
            if self.store.replace(key, aliases_text(wanted).encode(), found):
                self._keep(lineage, aliases_text(wanted))
                return wanted
            time.sleep(PAUSE_SECONDS * attempt)
        raise ObjectStoreError(
            f"{self._at()}: the aliases of {lineage} change all the time; try later"
        )

    def _parsed(self, lineage: str, found: Found | None) -> Aliases:
        if found is None:
            return Aliases()
        text = found.body.decode("utf-8", errors="replace")
        aliases = parse_aliases(text, f"{self._at()}/{_aliases_key(lineage)}")
        self._keep(lineage, text)
        return aliases

    def _keep(self, lineage: str, text: str) -> None:
        """Keep a copy for people; nothing here reads it."""
        path = self.cache / lineage / ALIASES_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            write_atomically(path, text)

    def _claimed(self, lineage: str) -> list[int]:
        names = self.store.folders(f"{FOLDER}/{lineage}")
        return sorted(int(name) for name in names if name.isdecimal())

    def _has_manifest(self, lineage: str, number: int) -> bool:
        """Whether the store holds a whole version; fetches its manifest where it is not here.

        A version that lies here and is not in the store yet was claimed from here.
        """
        path = self.cache / lineage / str(number) / MANIFEST_FILE
        mine = self._claim_here(lineage, number)
        if path.is_file() and not mine.is_file():
            return True
        found = self.store.read(f"{FOLDER}/{lineage}/{number}/{MANIFEST_FILE}")
        if found is None:
            return False
        mine.unlink(missing_ok=True)
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, found.body.decode("utf-8"))
        return True

    def _claim_here(self, lineage: str, number: int) -> Path:
        """The file that is here while a number that was claimed from here is not known as whole."""
        return self.cache / lineage / CLAIMS_FOLDER / str(number)

    def _at(self) -> str:
        return str(self.store.location)


def fetch_file(store: ObjectStore, key: str, expected: str, path: Path) -> None:
    """Write an object into a file, checked against its hash; a bad copy is fetched once more.

    Raises:
        ObjectStoreError: There is no such object, or it is not what was written.
    """
    for _ in range(2):
        if not store.download(key, path):
            raise ObjectStoreError(
                f"{store.location}/{key} is missing. Restore it from a copy; nothing else is lost"
            )
        if file_hash(path) == expected:
            return
    path.unlink()
    raise ObjectStoreError(
        f"{store.location}/{key} was changed after it was written (its SHA-256 differs). "
        "Restore it from a copy; nothing was taken from it"
    )


def _aliases_key(lineage: str) -> str:
    return f"{FOLDER}/{lineage}/{ALIASES_FILE}"


def _claimant() -> dict[str, str | int]:
    return {"token": uuid.uuid4().hex, "host": socket.gethostname(), "pid": os.getpid()}
