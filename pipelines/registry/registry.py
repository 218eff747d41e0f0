"""The registry: which versions a lineage has, and which of them answers.

The truth is a folder: `<home>/versions/<lineage>/<number>/` holds an immutable version, and
`<home>/versions/<lineage>/aliases.json` says which is champion and challenger. A promotion is one
atomic rename of that file; serving watches it. MLflow's model registry is a mirror made afterwards.

Where the home is a copy of a store on S3 (`pipelines/remote`), the truth is there: files are
fetched when they are needed, and a version exists once it is published.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from ratchet.pipelines.errors import BusyError, NotFoundError, TrackingError
from ratchet.pipelines.files.lock import exclusive, waiting
from ratchet.pipelines.registry.aliases import Aliases, read_aliases, write_aliases
from ratchet.pipelines.registry.manifest import Manifest, read_manifest
from ratchet.pipelines.registry.mlflow_mirror import mirror_lineage
from ratchet.pipelines.registry.s3.address import RunAddress
from ratchet.pipelines.registry.s3.attachment import remote_versions

if TYPE_CHECKING:
    from ratchet.pipelines.registry.s3.versions import RemoteVersions

MANIFEST = "manifest.json"

_log = logging.getLogger(__name__)


class Registry:
    """Versions and aliases of every lineage below one home folder.

    Args:
        home: Where state lives.
        tracking_uri: The MLflow store that mirrors the registry; None keeps no mirror.
    """

    def __init__(self, home: Path, tracking_uri: str | None = None) -> None:
        self.folder = home.resolve() / "versions"
        self.tracking_uri = tracking_uri

    @cached_property
    def remote(self) -> RemoteVersions | None:
        """The store that this registry is a copy of, or None."""
        return remote_versions(self.folder.parent)

    def lineages(self) -> list[str]:
        """The lineages that exist, by name."""
        if self.remote is not None:
            return self.remote.lineages()
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir())

    def versions(self, lineage: str) -> list[int]:
        """The numbers of the complete versions of a lineage, ascending; empty for a new lineage.

        Their manifests lie in their folders; other files may have to be `fetched` first.
        """
        if self.remote is not None:
            return self.remote.numbers(lineage)
        folders = self._numbered(lineage)
        return sorted(number for number, path in folders if (path / MANIFEST).is_file())

    def path(self, lineage: str, number: int) -> Path:
        """The folder of a version, whether or not it was written yet."""
        return self.folder / lineage / str(number)

    def manifest(self, lineage: str, number: int) -> Manifest:
        """What a version says of itself.

        Raises:
            NotFoundError: There is no such version.
        """
        if self.remote is not None:
            return self.remote.manifest(lineage, number)
        return read_manifest(self.path(lineage, number))

    def fetched(self, lineage: str, number: int) -> Path:
        """The folder of a version with all of its files.

        Raises:
            NotFoundError: The store holds no such version.
            ObjectStoreError: The store cannot give it.
        """
        if self.remote is not None:
            return self.remote.fetch(lineage, number)
        return self.path(lineage, number)

    def is_written(self, lineage: str, number: int) -> bool:
        """Whether a version's folder is complete here, published or not."""
        return (self.path(lineage, number) / MANIFEST).is_file()

    def run_address(self, lineage: str, run: str, data: str = "") -> RunAddress | None:
        """Where the store keeps an unfinished run; None where there is no store.

        Args:
            lineage: Name of the lineage.
            run: The run's name, the same on every machine.
            data: Hash of the data that it teaches, where checkpoints are asked for.
        """
        if self.remote is None:
            return None
        return RunAddress(str(self.remote.store.location), lineage, run, data)

    def publish(self, lineage: str, number: int) -> None:
        """Bring a version that was written here to where all find it; nothing where that is here.

        Raises:
            ObjectStoreError: The store cannot take it; called again later, it goes on.
        """
        if self.remote is not None:
            self.remote.publish(lineage, number)

    def next_number(self, lineage: str) -> int:
        """Claim the next free number of a lineage by making its folder, empty.

        Two callers never get the same number. A number whose update failed stays unused.
        """
        (self.folder / lineage).mkdir(parents=True, exist_ok=True)
        if self.remote is not None:
            number = self.remote.claim(lineage)
            self.path(lineage, number).mkdir(exist_ok=True)
            return number
        number = max((number for number, _ in self._numbered(lineage)), default=0)
        while True:
            number += 1
            try:
                self.path(lineage, number).mkdir()
            except FileExistsError:
                continue
            return number

    @contextmanager
    def update_lock(self, lineage: str) -> Iterator[None]:
        """Hold the lineage for one update.

        Raises:
            BusyError: When another update holds it; a process that died holds nothing.
        """
        (self.folder / lineage).mkdir(parents=True, exist_ok=True)
        with exclusive(self.folder / lineage / ".update.lock", f"Lineage {lineage}"):
            yield

    def aliases(self, lineage: str) -> Aliases:
        """The aliases of a lineage as they are now."""
        if self.remote is not None:
            return self.remote.aliases(lineage)
        return read_aliases(self.folder / lineage)

    def champion(self, lineage: str) -> int | None:
        """The version that answers, or None before the first promotion."""
        return self.aliases(lineage).champion

    def challenger(self, lineage: str) -> int | None:
        """The version that waits, or None."""
        return self.aliases(lineage).challenger

    def resolve(self, reference: str) -> Path:
        """The folder of a version by `lineage` (its champion), `lineage@3` or `lineage@challenger`.

        Raises:
            NotFoundError: When the lineage, the alias or the version does not exist; names the
                nearest that do.
        """
        lineage, _, wanted = reference.partition("@")
        if lineage not in self.lineages():
            raise NotFoundError(
                f"{reference}: there is no lineage {lineage!r}. "
                + _offer("Lineages here", lineage, self.lineages())
            )
        number = self._number(lineage, wanted or "champion")
        self._check_exists(lineage, number)
        return self.fetched(lineage, number)

    def register(
        self, lineage: str, number: int, metrics: Mapping[str, float | None], run: str | None = None
    ) -> None:
        """Make a written version the challenger, and mirror that to MLflow.

        Args:
            lineage: Name of the lineage.
            number: A number of `next_number` whose folder now holds a version.
            metrics: Metrics of METHODS.md by name; those that are None are left out of the mirror.
            run: Key of the update's tracked run (`Tracker.key`), which the mirror links to.

        Raises:
            NotFoundError: When the folder holds no complete version.
        """
        self._check_exists(lineage, number)
        self._change(lineage, lambda known: known.registering(number, metrics, run))
        self._mirror_or_warn(lineage)

    def promote(self, lineage: str, number: int) -> None:
        """Make a version the champion in one atomic step, and mirror that to MLflow.

        Raises:
            NotFoundError: When the version does not exist.
        """
        self._check_exists(lineage, number)
        self._change(lineage, lambda known: known.promoting(number))
        self._mirror_or_warn(lineage)

    def promote_by_hand(
        self,
        lineage: str,
        number: int,
        accepted: Mapping[str, float],
        reason: str,
        *,
        checked: bool,
    ) -> None:
        """Promote a version that a person answers for, and keep what they answer for.

        Args:
            lineage: Name of the lineage.
            number: The version.
            accepted: By task, the loss that is accepted.
            reason: Why.
            checked: Whether the version was loaded as serving loads it.

        Raises:
            NotFoundError: When the version does not exist.
        """
        self._check_exists(lineage, number)
        self._change(
            lineage, lambda known: known.answered_for(number, accepted, reason, checked=checked)
        )
        self._mirror_or_warn(lineage)

    def promote_over(self, lineage: str, number: int, judged: int | None) -> None:
        """Promote a version that the gate let through, if the champion is still the one judged by.

        Args:
            lineage: Name of the lineage.
            number: The version.
            judged: The champion that the gate held it against; None where there was none.

        Raises:
            BusyError: Another version became champion meanwhile.
            NotFoundError: When the version does not exist.
        """

        def promoting(known: Aliases) -> Aliases:
            if known.champion not in (judged, number):
                raise BusyError(
                    f"{lineage}: version {known.champion} became champion while version {number} "
                    f"was taught from {'the base model' if judged is None else judged}, so the "
                    f"gate's judgement no longer holds. Version {number} waits as challenger: "
                    "promote it by hand, or run the update again from the champion"
                )
            return known.promoting(number)

        self._check_exists(lineage, number)
        self._change(lineage, promoting)
        self._mirror_or_warn(lineage)

    def follow(self, lineage: str, change: Callable[[Aliases], Aliases]) -> bool:
        """Bring the aliases in one step to what was decided elsewhere; `mirror` tells MLflow.

        Args:
            lineage: Name of the lineage.
            change: Makes the aliases that are wanted of those that are there.

        Returns:
            Whether anything had to change.
        """
        known = self.aliases(lineage)
        if change(known) == known:
            return False
        self._change(lineage, change)
        return True

    def rollback(self, lineage: str) -> int:
        """Make the champion before this one the champion again, and return its number.

        Raises:
            NotFoundError: When there was no champion before this one.
        """
        number = self.aliases(lineage).previous_champion
        if number is None:
            raise NotFoundError(
                f"{lineage}: no version was champion before version {self.champion(lineage)}. "
                f"Versions here: {_listed(self.versions(lineage))}"
            )
        self.promote(lineage, number)
        return number

    def mirror(self, lineage: str) -> None:
        """Bring MLflow's model registry to what the aliases file says; repairs what it missed.

        Raises:
            TrackingError: When MLflow cannot be reached.
        """
        if self.tracking_uri is None:
            return
        versions = {number: self.path(lineage, number) for number in self.versions(lineage)}
        with waiting(self.folder / lineage / ".mirror.lock"):
            mirror_lineage(self.tracking_uri, lineage, self.aliases(lineage), versions)

    def _mirror_or_warn(self, lineage: str) -> None:
        try:
            self.mirror(lineage)
        except TrackingError as error:
            _log.warning(
                "The registry of %s is not mirrored to MLflow yet; the next change or "
                "Registry.mirror does it. %s",
                lineage,
                error,
            )

    def _change(self, lineage: str, change: Callable[[Aliases], Aliases]) -> None:
        """Replace the aliases by what a function makes of them, in one step."""
        if self.remote is not None:
            self.remote.change_aliases(lineage, change)
            return
        with waiting(self.folder / lineage / ".aliases.lock"):
            write_aliases(self.folder / lineage, change(self.aliases(lineage)))

    def _number(self, lineage: str, wanted: str) -> int:
        if wanted.isdecimal():
            return int(wanted)
        if wanted not in ("champion", "challenger"):
            raise NotFoundError(
                f"{lineage}@{wanted}: no such alias. Use champion, challenger or a number: "
                f"{_listed(self.versions(lineage))}"
            )
        number = getattr(self.aliases(lineage), wanted)
        if number is None:
            raise NotFoundError(
                f"{lineage}@{wanted}: the lineage has no {wanted}. "
                f"Versions here: {_listed(self.versions(lineage))}"
            )
        return number

    def _check_exists(self, lineage: str, number: int) -> None:
        if number not in self.versions(lineage):
            raise NotFoundError(
                f"{lineage}@{number}: there is no version {number}. "
                f"Versions here: {_listed(self.versions(lineage))}"
            )

    def _numbered(self, lineage: str) -> list[tuple[int, Path]]:
        folder = self.folder / lineage
        if not folder.is_dir():
            return []
        return [(int(path.name), path) for path in folder.iterdir() if path.name.isdecimal()]


def _offer(what: str, wanted: str, names: list[str]) -> str:
    near = difflib.get_close_matches(wanted, names, n=3)
    return f"Did you mean {', '.join(near)}?" if near else f"{what}: {_listed(names)}"


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names) or "none"
