"""Which version of a lineage is champion and which is challenger, with the history of both."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.files.atomic_file import write_atomically

FILE_NAME = "aliases.json"
FORMAT = 2

Alias = Literal["champion", "challenger"]


@dataclass(frozen=True)
class Change:
    """One move of an alias, never edited afterwards.

    Attributes:
        time: When, ISO 8601 in UTC.
        alias: The alias that moved.
        number: The version that it names since; None when it names none.
    """

    time: str
    alias: Alias
    number: int | None


@dataclass(frozen=True)
class Registration:
    """What is known of a version beside its folder.

    Attributes:
        time: When it was registered, ISO 8601 in UTC; empty when it never was.
        metrics: Metrics by name.
        run: Key of the tracked run that made it, if it was tracked.
    """

    time: str = ""
    metrics: Mapping[str, float | None] = field(default_factory=dict)
    run: str | None = None


@dataclass(frozen=True)
class ByHand:
    """What a person answered for when they promoted a version, never edited afterwards.

    Attributes:
        time: When, ISO 8601 in UTC.
        accepted: By task, the loss that was accepted, a share of its validation rows; empty where
            none had to be.
        reason: Why, in the person's words.
        checked: Whether the version was loaded as serving loads it before it was promoted.
    """

    time: str
    accepted: Mapping[str, float]
    reason: str
    checked: bool


@dataclass(frozen=True)
class Aliases:
    """The aliases of a lineage at one moment.

    Attributes:
        champion: The version that answers.
        challenger: The version that waits.
        history: Every move, oldest first.
        registered: What is known of each version that was ever registered.
        by_hand: What was answered for when a version was promoted by hand, by its number.
    """

    champion: int | None = None
    challenger: int | None = None
    history: tuple[Change, ...] = ()
    registered: Mapping[int, Registration] = field(default_factory=dict)
    by_hand: Mapping[int, ByHand] = field(default_factory=dict)

    @property
    def previous_champion(self) -> int | None:
        """The champion that the present one took the place of, or None."""
        champions = [change.number for change in self.history if change.alias == "champion"]
        return champions[-2] if len(champions) > 1 else None

    def registering(
        self, number: int, metrics: Mapping[str, float | None], run: str | None
    ) -> Aliases:
        """These aliases with a version registered as challenger."""
        known = {**self.registered, number: Registration(_now(), dict(metrics), run)}
        return replace(self, registered=known)._moving("challenger", number)

    def promoting(self, number: int) -> Aliases:
        """These aliases with a version as champion, which then waits no longer."""
        if number == self.champion:
            return self
        promoted = self._moving("champion", number)
        return promoted._moving("challenger", None) if number == self.challenger else promoted

    def answered_for(
        self, number: int, accepted: Mapping[str, float], reason: str, *, checked: bool
    ) -> Aliases:
        """These aliases with a version as champion that a person answers for."""
        known = {**self.by_hand, number: ByHand(_now(), dict(accepted), reason, checked)}
        return replace(self, by_hand=known).promoting(number)

    def pointing(self, champion: int | None, challenger: int | None) -> Aliases:
        """These aliases with both where they were decided to be elsewhere."""
        moved = self if champion == self.champion else self._moving("champion", champion)
        return moved if challenger == self.challenger else moved._moving("challenger", challenger)

    def _moving(self, alias: Alias, number: int | None) -> Aliases:
        history = (*self.history, Change(_now(), alias, number))
        if alias == "champion":
            return replace(self, champion=number, history=history)
        return replace(self, challenger=number, history=history)


def read_aliases(folder: Path) -> Aliases:
    """The aliases in a lineage's folder; none before the first registration.

    Raises:
        VersionError: When the file is not one that this release can read.
    """
    path = folder / FILE_NAME
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Aliases()
    return parse_aliases(text, str(path))


def write_aliases(folder: Path, aliases: Aliases) -> None:
    """Replace a lineage's aliases in one atomic step."""
    write_atomically(folder / FILE_NAME, aliases_text(aliases))


def aliases_text(aliases: Aliases) -> str:
    """Aliases as they are written."""
    return json.dumps({"format": FORMAT, **asdict(aliases)}, indent=1) + "\n"


def parse_aliases(text: str, where: str) -> Aliases:
    """What `aliases_text` wrote.

    Args:
        text: The content.
        where: The place that it was read from, for the message.

    Raises:
        VersionError: When this release cannot read it.
    """
    try:
        return _parsed(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise VersionError(
            f"{where}: not an aliases file of format {FORMAT} ({error!r}). "
            "Restore it from a copy; the versions beside it are untouched"
        ) from error


def _parsed(content: Mapping[str, Any]) -> Aliases:
    if content["format"] != FORMAT:
        raise ValueError(f"format {content['format']}")
    return Aliases(
        champion=content["champion"],
        challenger=content["challenger"],
        history=tuple(Change(**change) for change in content["history"]),
        registered={
            int(number): Registration(**known) for number, known in content["registered"].items()
        },
        by_hand={int(number): ByHand(**known) for number, known in content["by_hand"].items()},
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
