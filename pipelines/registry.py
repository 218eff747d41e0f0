"""The registry: which versions a lineage has, and which of them answers.

The truth is a folder: `<home>/versions/<lineage>/<number>/` holds an immutable version, and
`<home>/versions/<lineage>/aliases.json` says which is champion and challenger. A promotion is one
atomic rename of that file; serving watches it. MLflow's model registry is a mirror made afterwards.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from pipelines.aliases import Aliases, read_aliases, write_aliases
from pipelines.errors import NotFoundError, TrackingError
from pipelines.lock import exclusive, waiting
from pipelines.mlflow_mirror import mirror_lineage

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

    def lineages(self) -> list[str]:
        """The lineages that exist, by name."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir())

    def versions(self, lineage: str) -> list[int]:
        """The numbers of the complete versions of a lineage, ascending; empty for a new lineage."""
        folders = self._numbered(lineage)
        return sorted(number for number, path in folders if (path / MANIFEST).is_file())

    def path(self, lineage: str, number: int) -> Path:
        """The folder of a version, whether or not it was written yet."""
        return self.folder / lineage / str(number)

    def next_number(self, lineage: str) -> int:
        """Claim the next free number of a lineage by making its folder, empty.

        Two callers never get the same number. A number whose update failed stays unused.
        """
        (self.folder / lineage).mkdir(parents=True, exist_ok=True)
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
        return self._existing(lineage, number)

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
        self._existing(lineage, number)
        with self._changing(lineage):
            write_aliases(
                self.folder / lineage,
                self.aliases(lineage).registering(number, metrics, run),
            )
        self._mirror_or_warn(lineage)

    def promote(self, lineage: str, number: int) -> None:
        """Make a version the champion in one atomic step, and mirror that to MLflow.

        Raises:
            NotFoundError: When the version does not exist.
        """
        self._existing(lineage, number)
        with self._changing(lineage):
            write_aliases(self.folder / lineage, self.aliases(lineage).promoting(number))
        self._mirror_or_warn(lineage)

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

    @contextmanager
    def _changing(self, lineage: str) -> Iterator[None]:
        with waiting(self.folder / lineage / ".aliases.lock"):
            yield

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

    def _existing(self, lineage: str, number: int) -> Path:
        if number not in self.versions(lineage):
            raise NotFoundError(
                f"{lineage}@{number}: there is no version {number}. "
                f"Versions here: {_listed(self.versions(lineage))}"
            )
        return self.path(lineage, number)

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
