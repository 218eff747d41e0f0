# pyright: reportUnknownArgumentType=false, reportUnknownVariableType=false
"""The mirror: brings `aliases.json`, which the router watches, and MLflow to the database's state.

A promotion is a transaction in the database. Whatever happens between that and the file, the next
look finds the difference, also where somebody put an older file in its place.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from ratchet.pipelines.errors import NotFoundError, RatchetError, TrackingError, VersionError
from ratchet.pipelines.files.json_value import Json
from ratchet.pipelines.registry.aliases import Aliases
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.control.log_once import LogOnce
from ratchet.service.errors import DatabaseUnavailableError, LeaseLostError
from ratchet.service.store.database import Database
from ratchet.service.store.jobs import get_job
from ratchet.service.store.leases import confirm
from ratchet.service.store.lineages import (
    get_lineage,
    list_lineages,
    list_versions,
    mark_mirrored,
    unmirrored,
)
from ratchet.service.store.records import Lease, Lineage, Promotion, Version

CHECK_SECONDS = 10.0
PAGE = 100

_log = logging.getLogger(__name__)


class Mirror:
    """Keeps the registry's aliases at what the database says.

    Args:
        db: The truth.
        registry: What follows it.
        mlflow: Told of every lineage whose aliases moved.
    """

    def __init__(self, db: Database, registry: Registry, mlflow: MlflowMirror) -> None:
        self.db = db
        self.registry = registry
        self.mlflow = mlflow
        self._check_due = 0.0
        self._is_first = True
        self._log_once = LogOnce(_log)

    def turn(self, held: Callable[[], Lease]) -> None:
        """Mirror what was decided; now and then, look whether everything still agrees.

        Args:
            held: The lease, kept for longer by each call: there may be many lineages.

        Raises:
            LeaseLostError: Another controller acts.
            DatabaseUnavailableError: The database is away.
        """
        pending: dict[str, list[Promotion]] = {}
        for promotion in unmirrored(self.db):
            pending.setdefault(promotion.lineage, []).append(promotion)
        names = list(pending)
        if time.monotonic() >= self._check_due:
            self._check_due = time.monotonic() + CHECK_SECONDS
            names += [name for name in self._lineages() if name not in pending]
            if self._is_first:  # MLflow may have missed what came before this process
                self.mlflow.ask(names)
            self._is_first = False
        for name in names:
            try:
                self._mirror(held(), name, pending.get(name, []))
            except (LeaseLostError, DatabaseUnavailableError):
                raise
            except (RatchetError, OSError, ValueError, TypeError, LookupError, AttributeError) as e:
                # What a lineage's rows and files hold is its own affair, and no other's.
                self._log_once.say(f"lineage {name}", f"its aliases do not follow yet: {e!r}")
            else:
                self._log_once.settle(f"lineage {name}")

    def _lineages(self) -> list[str]:
        names: list[str] = []
        while True:
            page = list_lineages(self.db, after=names[-1] if names else None, limit=PAGE)
            names += [lineage.name for lineage in page]
            if len(page) < PAGE:
                return names

    def _mirror(self, lease: Lease, name: str, pending: Sequence[Promotion]) -> None:
        """Bring one lineage's aliases to the database's, then note which decisions they show."""
        lineage = get_lineage(self.db, name)  # after `pending`: it shows at least those
        known = self.registry.aliases(name)
        agrees = (known.champion, known.challenger) == (lineage.champion, lineage.challenger)
        if agrees and not pending:
            return
        self._check_there(lineage)
        registrations = self._registrations(name, known)

        def change(aliases: Aliases) -> Aliases:
            confirm(self.db, lease)  # whoever was taken over may have slept over what it read
            return _following(aliases, lineage, pending, registrations)

        if self.registry.follow(name, change):
            where = f"champion {lineage.champion}, challenger {lineage.challenger}"
            _log.info("lineage %s: its aliases follow the database: %s", name, where)
        for promotion in pending:
            mark_mirrored(self.db, promotion.id)
        self.mlflow.ask([name])

    def _check_there(self, lineage: Lineage) -> None:
        """Make sure that no alias would name a version that lies nowhere."""
        there = self.registry.versions(lineage.name)
        for number in (lineage.champion, lineage.challenger):
            if number is not None and number not in there:
                raise NotFoundError(
                    f"{lineage.name}@{number} is in the database and not in the home. Bring the "
                    "version back, or see that RATCHET_HOME is the right one"
                )

    def _registrations(self, name: str, known: Aliases) -> dict[int, Mapping[str, Json]]:
        """Results of the jobs whose versions the aliases do not know, by number, ascending."""
        found: dict[int, Mapping[str, Json]] = {}
        before: int | None = None
        while True:
            page: list[Version] = list_versions(self.db, name, before=before, limit=PAGE)
            for version in page:
                if version.job_id is not None and version.number not in known.registered:
                    found[version.number] = get_job(self.db, version.job_id).result or {}
            if len(page) < PAGE:
                return dict(sorted(found.items()))
            before = page[-1].number


def _following(
    aliases: Aliases,
    lineage: Lineage,
    pending: Sequence[Promotion],
    registrations: Mapping[int, Mapping[str, Json]],
) -> Aliases:
    """Aliases as the database has them, moved one decision after another."""
    left = dict(registrations)
    for promotion in pending:
        if promotion.version in left:
            aliases = _registering(aliases, promotion.version, left.pop(promotion.version))
        if promotion.kind != "refused":
            aliases = aliases.promoting(promotion.version)
    for number, result in left.items():
        aliases = _registering(aliases, number, result)
    return aliases.pointing(lineage.champion, lineage.challenger)


def _registering(aliases: Aliases, number: int, result: Mapping[str, Json]) -> Aliases:
    given, run = result.get("metrics") or {}, result.get("run")
    if not isinstance(given, Mapping):
        raise VersionError(
            f"version {number}: its job's result.metrics is {given!r:.200}, which is none of this "
            "release. Another release wrote it: bring back a backup, or teach the version anew"
        )
    metrics = {
        name: value
        for name, value in given.items()
        if value is None or isinstance(value, int | float)
    }
    return aliases.registering(number, metrics, run if isinstance(run, str) else None)


class MlflowMirror:
    """Tells MLflow of lineages, in a thread of its own: MLflow may be slow, or away for hours.

    Args:
        registry: What MLflow is told of.
        retry_seconds: Pause before a lineage is tried again.
    """

    def __init__(self, registry: Registry, retry_seconds: float = 30.0) -> None:
        self._registry = registry
        self._retry_seconds = retry_seconds
        self._asked: set[str] = set()
        self._changed = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="ratchet-mlflow", daemon=True)
        self._thread.start()

    def ask(self, lineages: Sequence[str]) -> None:
        """Have lineages mirrored soon."""
        with self._changed:
            self._asked.update(lineages)
            self._changed.notify()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """End the thread, if it ends soon; what is left is done after the next start."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopping or self._asked)
                if self._stopping:
                    return
                name = self._asked.pop()
            self._mirror(name)

    def _mirror(self, name: str) -> None:
        try:
            self._registry.mirror(name)
        except TrackingError as error:
            # MLflow's own messages may hold a whole schema: their beginning says it.
            _log.warning("lineage %s: MLflow does not show it yet: %.300s", name, error)
            with self._changed:
                self._asked.add(name)
                self._changed.wait_for(lambda: self._stopping, self._retry_seconds)
        except (RatchetError, OSError) as error:
            _log.warning("lineage %s: cannot be shown to MLflow: %s", name, error)
