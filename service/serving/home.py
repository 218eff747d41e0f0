"""The lineages of a home that are served: named ones, or all of them as they get champions."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.serving.lineage import RETRY_SECONDS, UNREADABLE, Refusal, ServedLineage
from ratchet.service.serving.routing import LineageView

Open = Callable[[str], ServedLineage]

_log = logging.getLogger(__name__)


class ServedHome:
    """Lineages in memory, by name.

    A lineage is added in one assignment after it was loaded, so a request sees all of it or
    nothing. Language models are passed over where all lineages are served: there is nothing here
    that could answer for them.

    Args:
        registry: Says which lineages there are.
        open_lineage: Loads a lineage.
        names: What to serve; None serves every lineage from its first champion on.

    Raises:
        NotFoundError: A named lineage does not exist or has no champion.
        VersionError: No champion of a named lineage can be loaded.
    """

    def __init__(
        self, registry: Registry, open_lineage: Open, names: Sequence[str] | None = None
    ) -> None:
        self.refused: Mapping[str, Refusal] = {}
        self._registry = registry
        self._open = open_lineage
        self._serves_all = names is None
        self._lineages: Mapping[str, ServedLineage] = {
            name: open_lineage(name) for name in names or ()
        }
        self._take_up_new()

    @property
    def lineages(self) -> Mapping[str, ServedLineage]:
        """What is served at this moment."""
        return self._lineages

    def views(self) -> list[LineageView]:
        """What can be named, of every lineage."""
        return [lineage.view() for lineage in self._lineages.values()]

    def look_again(self) -> None:
        """Read which versions the lineages have."""
        for lineage in self._lineages.values():
            lineage.look_again()

    def refresh(self) -> None:
        """Take over new champions, and lineages that got their first."""
        for lineage in self._lineages.values():
            lineage.refresh()
        self._take_up_new()

    def close(self) -> None:
        """Free every version; nothing may be asked any more."""
        for lineage in self._lineages.values():
            lineage.close()

    def _take_up_new(self) -> None:
        if not self._serves_all:
            return
        for name in self._registry.lineages():
            refusal = self.refused.get(name)
            is_waiting = refusal is not None and time.monotonic() - refusal.at < RETRY_SECONDS
            if name not in self._lineages and not is_waiting:
                self._try(name)

    def _try(self, name: str) -> None:
        """Add a lineage, or remember why it cannot be served; the others go on either way."""
        try:
            champion = self._registry.champion(name)
            if champion is None or self._is_language_model(name, champion):
                return
            opened = self._open(name)
        except UNREADABLE as error:
            self.refused = {**self.refused, name: Refusal(str(error), time.monotonic())}
            _log.error("%s is not served: %s", name, error)
            return
        self._lineages = {**self._lineages, name: opened}
        self.refused = {other: own for other, own in self.refused.items() if other != name}
        _log.info("%s is served now, by version %d", name, opened.serving)

    def _is_language_model(self, name: str, champion: int) -> bool:
        try:
            return read_manifest(self._registry.path(name, champion)).kind == "causal_lm"
        except RatchetError:
            return False  # an older champion may be sound; opening the lineage finds out
