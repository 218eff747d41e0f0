"""Lineages that lie in the home already, when the service is started over it."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ratchet.pipelines.errors import RatchetError, is_passing
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.control.version_facts import known_version
from ratchet.service.errors import DatabaseUnavailableError, LeaseLostError
from ratchet.service.store.database import Database
from ratchet.service.store.lineages import adopt

_log = logging.getLogger(__name__)


def adopt_home(db: Database, registry: Registry, keep: Callable[[], object]) -> bool:
    """Take every lineage of the home into the database; one that is broken is passed over.

    Args:
        db: The database.
        registry: The versions of the home.
        keep: Called before each lineage, of which there may be many: keeps the lease.

    Returns:
        Whether everything could be looked at; not while the store of the versions is away.

    Raises:
        LeaseLostError: Another controller has taken over.
        DatabaseUnavailableError: The database is away.
    """
    try:
        for name in registry.lineages():
            keep()
            try:
                _adopt(db, registry, name)
            except (RatchetError, OSError) as error:
                if not _is_its_own(error):
                    raise
                _log.warning("lineage %s: cannot be taken in: %s", name, error)
    except OSError as error:
        if not is_passing(error):
            raise
        _log.warning("nothing new is started before the home can be looked at: %s", error)
        return False
    return True


def _is_its_own(error: RatchetError | OSError) -> bool:
    """Whether an error is one lineage's own: the next one may do better at the same moment."""
    return not isinstance(error, LeaseLostError | DatabaseUnavailableError) and not is_passing(
        error
    )


def _adopt(db: Database, registry: Registry, name: str) -> None:
    known = [known_version(registry, name, number) for number in registry.versions(name)]
    if not known:
        return
    numbers = {version.number for version in known}
    aliases = registry.aliases(name)
    moves = [change.number for change in aliases.history if change.alias == "champion"]
    former = [number for number in moves[:-1] if number is not None and number in numbers]
    base = known[0].manifest.base_model
    adopt(db, name, base, known, aliases.champion, aliases.challenger, former)
