"""Lineages that lie in the home already, when the service is started over it."""

from __future__ import annotations

import logging

from pipelines.errors import RatchetError
from pipelines.registry import Registry
from service.control.version_facts import known_version
from service.store.database import Database
from service.store.lineages import adopt

_log = logging.getLogger(__name__)


def adopt_home(db: Database, registry: Registry) -> None:
    """Take every lineage of the home into the database; one that is broken is passed over.

    Args:
        db: The database.
        registry: The versions of the home.
    """
    for name in registry.lineages():
        try:
            _adopt(db, registry, name)
        except (RatchetError, OSError) as error:
            _log.warning("lineage %s: cannot be taken in: %s", name, error)


def _adopt(db: Database, registry: Registry, name: str) -> None:
    known = [known_version(registry, name, number) for number in registry.versions(name)]
    if not known:
        return
    numbers = {version.number for version in known}
    aliases = registry.aliases(name)
    moves = [change.number for change in aliases.history if change.alias == "champion"]
    former = [number for number in moves[:-1] if number is not None and number in numbers]
    base = known[0].manifest["base_model"]
    adopt(db, name, base, known, aliases.champion, aliases.challenger, former)
