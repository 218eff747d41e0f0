"""A lineage that is served: its champion, other versions on demand, and the swap to the next.

A request takes a lease on a version, and a version leaves memory only when nobody has a lease on
it. A new champion is loaded and checked beside the old one; the swap itself is one assignment
under a lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from ratchet.pipelines.answering.frozen_base import BaseShelf
from ratchet.pipelines.answering.golden import check_golden
from ratchet.pipelines.answering.served_version import ServedVersion, load_served_version
from ratchet.pipelines.errors import NotFoundError, RatchetError, VersionError
from ratchet.pipelines.registry.aliases import Aliases
from ratchet.pipelines.registry.manifest import Manifest, read_manifest
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.errors import OverloadedError, UnavailableError
from ratchet.service.serving.routing import LineageView

MAX_OTHER_VERSIONS = 2
RETRY_SECONDS = 30.0
UNREADABLE = (
    RatchetError,
    OSError,
    ValueError,
    TypeError,
    KeyError,
    RuntimeError,
    SafetensorError,
)
"""What reading a damaged version can raise."""

Load = Callable[[Path], ServedVersion]

_log = logging.getLogger(__name__)


@dataclass
class _Resident:
    version: ServedVersion
    num_leases: int = 0
    last_used: float = 0.0
    retired: bool = False


@dataclass(frozen=True)
class Refusal:
    """Why a version is not served, and when it was last tried (monotonic seconds)."""

    reason: str
    at: float


class ServedLineage:
    """The versions of a lineage in memory.

    Args:
        registry: Says which version is champion.
        name: The lineage.
        load: Loads a version's folder.
        max_other_versions: How many versions beside the champion may be in memory.

    Raises:
        NotFoundError: The lineage does not exist, or nothing was promoted yet.
        VersionError: Neither the champion nor any champion before it can be loaded.
    """

    def __init__(
        self,
        registry: Registry,
        name: str,
        load: Load,
        max_other_versions: int = MAX_OTHER_VERSIONS,
    ) -> None:
        self.registry = registry
        self.name = name
        self.max_other_versions = max_other_versions
        self.refused: dict[int, Refusal] = {}
        self._load_folder = load
        self._lock = threading.Lock()
        self._loading = threading.Lock()
        self._residents: dict[int, _Resident] = {}
        self._manifests: dict[int, Manifest] = {}
        self._champion: int | None = None
        self._challenger: int | None = None
        self._serving = self._first_version()
        self.look_again()

    @property
    def serving(self) -> int:
        """The version that answers where none is named."""
        return self._serving

    @property
    def champion(self) -> int | None:
        """What the registry called champion when it was last read; None where it cannot be read."""
        return self._champion

    def resident(self) -> dict[int, int]:
        """Leases by version in memory."""
        with self._lock:
            return {number: held.num_leases for number, held in sorted(self._residents.items())}

    def view(self) -> LineageView:
        """What can be named, as the disk was when it was last looked at."""
        tasks = {number: manifest.task_names for number, manifest in self._manifests.items()}
        return LineageView(self.name, self._serving, self._challenger, tasks)

    @property
    def manifest(self) -> Manifest:
        """What the serving version says of itself."""
        return self._manifests[self._serving]

    def look_again(self) -> None:
        """Read which versions there are; the manifest of each is read once."""
        found = dict(self._manifests)
        for number in self.registry.versions(self.name):
            if number not in found:
                try:
                    found[number] = read_manifest(self.registry.path(self.name, number))
                except RatchetError as error:
                    _log.warning("%s@%d cannot be named: %s", self.name, number, error)
        self._manifests = found  # replaced, not changed: others may be reading it

    def take_resident(self, number: int | None) -> ServedVersion | None:
        """A lease on a version that is in memory, or None where it must be loaded first."""
        with self._lock:
            held = self._residents.get(self._serving if number is None else number)
            if held is None:
                return None
            held.num_leases += 1
            held.last_used = time.monotonic()
            return held.version

    def take(self, number: int | None) -> ServedVersion:
        """A lease on a version, loading it where needed; `give_back` ends it.

        Raises:
            OverloadedError: Every place for another version is in use.
            UnavailableError: The version is broken.
        """
        version = self.take_resident(number)
        if version is not None:
            return version
        assert number is not None, "the serving version is always in memory"
        with self._loading:
            version = self.take_resident(number)
            if version is not None:
                return version
            refusal = self.refused.get(number)
            if refusal is not None and time.monotonic() - refusal.at < RETRY_SECONDS:
                raise UnavailableError(_refused_text(self.name, number, refusal), "model")
            self._make_room()
            try:
                loaded = self._load(number)
            except UNREADABLE as error:
                self._refuse(number, error)
                raise UnavailableError(
                    _refused_text(self.name, number, self.refused[number]), "model"
                ) from error
            with self._lock:
                self._residents[number] = _Resident(loaded, 1, time.monotonic())
            return loaded

    def give_back(self, version: ServedVersion) -> None:
        """End a lease; a retired version leaves with its last one."""
        with self._lock:
            held = self._residents[version.number]
            held.num_leases -= 1
            gone = self._drop_if_idle(version.number) if held.retired else None
        if gone is not None:
            gone.close()

    def refresh(self) -> None:
        """Take over the registry's champion if it changed; a broken one is refused."""
        try:
            aliases = self.registry.aliases(self.name)
            self.look_again()
        except (VersionError, OSError) as error:
            self._champion = None
            _log.warning("%s: %s", self.name, error)
            return
        wanted = self._champion = aliases.champion
        self._challenger = aliases.challenger
        if wanted is None or wanted == self._serving:
            return
        refusal = self.refused.get(wanted)
        if refusal is not None and time.monotonic() - refusal.at < RETRY_SECONDS:
            return
        try:
            self._swap(wanted)
        except UNREADABLE as error:
            self._refuse(wanted, error)

    def close(self) -> None:
        """Free every version; nothing may ask this lineage any more."""
        with self._lock:
            residents, self._residents = self._residents, {}
        for held in residents.values():
            held.version.close()

    def _first_version(self) -> int:
        """Load the champion, or, where it is broken, the latest champion before it that is not."""
        if self.name not in self.registry.lineages():
            self.registry.resolve(self.name)  # says what there is instead
        aliases = self.registry.aliases(self.name)
        self._champion, self._challenger = aliases.champion, aliases.challenger
        if aliases.champion is None:
            raise NotFoundError(
                f"{self.name} has no champion to serve; promote one of its versions: "
                f"{', '.join(map(str, self.registry.versions(self.name))) or 'none yet'}"
            )
        for number in champions_of(aliases):
            try:
                self._residents[number] = _Resident(self._load(number))
                return number
            except UNREADABLE as error:
                self._refuse(number, error)
        reasons = "; ".join(f"{n}: {refusal.reason}" for n, refusal in self.refused.items())
        raise VersionError(f"{self.name}: no champion can be loaded. {reasons}")

    def _load(self, number: int) -> ServedVersion:
        folder = self.registry.fetched(self.name, number)
        version = self._load_folder(folder)
        try:
            if (version.lineage, version.number) != (self.name, number):
                raise VersionError(
                    f"{folder} holds {version.lineage}@{version.number}; a version lies in the "
                    "folder of its own number"
                )
            check_golden(version, folder)
        except UNREADABLE:
            version.close()
            raise
        self.refused.pop(number, None)
        self._manifests = {**self._manifests, number: version.manifest}
        return version

    def _swap(self, number: int) -> None:
        """Load, check, flip, and free the old one when its last request is out."""
        with self._loading:
            with self._lock:
                loaded = number in self._residents
            version = None if loaded else self._load(number)
            with self._lock:
                if version is not None:
                    self._residents[number] = _Resident(version)
                self._residents[number].retired = False
                before, self._serving = self._serving, number
                self._residents[before].retired = True
                gone = self._drop_if_idle(before)
        if gone is not None:
            gone.close()
        _log.info("%s: version %d answers now, in the place of %d", self.name, number, before)

    def _make_room(self) -> None:
        """Free the version that was unused for longest where there are too many.

        Raises:
            OverloadedError: All of them are in use.
        """
        with self._lock:
            others = {n: held for n, held in self._residents.items() if n != self._serving}
            if len(others) < self.max_other_versions:
                return
            idle = [n for n, held in others.items() if held.num_leases == 0]
            if not idle:
                raise OverloadedError(
                    f"model: {len(others)} versions of {self.name} beside the champion are in use, "
                    "and there is no place for another; try again in a moment",
                    "model",
                )
            gone = self._residents.pop(min(idle, key=lambda n: others[n].last_used))
        gone.version.close()

    def _drop_if_idle(self, number: int) -> ServedVersion | None:
        if self._residents[number].num_leases > 0:
            return None
        return self._residents.pop(number).version

    def _refuse(self, number: int, error: Exception) -> None:
        self.refused[number] = Refusal(str(error) or repr(error), time.monotonic())
        _log.error("%s@%d is not served: %s", self.name, number, error)


def champions_of(aliases: Aliases) -> list[int]:
    """The champion and every champion before it, latest first, each once."""
    moves = [change.number for change in reversed(aliases.history) if change.alias == "champion"]
    numbers = [aliases.champion, *moves]
    return list(dict.fromkeys(number for number in numbers if number is not None))


def _refused_text(lineage: str, number: int, refusal: Refusal) -> str:
    return f"model: {lineage}@{number} is not served: {refusal.reason}"


def open_lineage(registry: Registry, name: str, shelf: BaseShelf) -> ServedLineage:
    """A lineage over a shelf of base models; see `ServedLineage` for what it raises."""
    return ServedLineage(registry, name, lambda folder: load_served_version(folder, shelf))
