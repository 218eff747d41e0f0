"""Versions and lineages as tables or JSON, wherever they were read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from rich.markup import escape
from rich.table import Table

from ratchet.pipelines.pages.words import NONE, count, day, percent
from ratchet.service.cli.session import Session


@dataclass(frozen=True)
class VersionRow:
    """A version, as `--json` prints it.

    Attributes:
        version: Its number.
        created: When it was written, in ISO 8601.
        parent: The version that it grew from, or None.
        tasks: Names of its tasks.
        methods: Types of its methods.
        average_accuracy: At the end, in [0, 1], where it was measured.
        forgetting: Of its tasks, where it was measured.
        aliases: The lineage's aliases that name it.
    """

    version: int
    created: str
    parent: int | None
    tasks: list[str]
    methods: list[str]
    average_accuracy: float | None
    forgetting: float | None
    aliases: list[str]


@dataclass(frozen=True)
class LineageRow:
    """A lineage with the numbers of its versions, as `--json` prints it."""

    lineage: str
    versions: list[int]
    champion: int | None
    challenger: int | None


def say_versions(session: Session, lineage: str, rows: Sequence[VersionRow]) -> None:
    """The versions of a lineage."""
    if session.as_json:
        session.emit({"lineage": lineage, "versions": [asdict(row) for row in rows]})
        return
    table = Table(show_edge=False)
    for name in ("version", "created", "from", "tasks", "average accuracy", "forgetting", "is"):
        may_wrap = name in ("tasks", "average accuracy", "is")
        table.add_column(name, no_wrap=not may_wrap, min_width=8 if may_wrap else None)
    for row in rows:
        table.add_row(*_cells(row))
    session.out.print(table)


def say_lineages(session: Session, rows: Sequence[LineageRow], where: str, next_step: str) -> None:
    """The lineages that exist."""
    if session.as_json:
        session.emit({"lineages": [asdict(row) for row in rows]})
        return
    if not rows:
        session.out.print(f"No lineage {escape(where)} yet. Next: {next_step}", soft_wrap=True)
        return
    table = Table(show_edge=False)
    for header in ("lineage", "versions", "champion", "challenger"):
        table.add_column(header)
    for row in rows:
        table.add_row(escape(row.lineage), count(len(row.versions)), *_aliases(row))
    session.out.print(table)


def _aliases(row: LineageRow) -> list[str]:
    return [str(number or NONE) for number in (row.champion, row.challenger)]


def _cells(row: VersionRow) -> list[str]:
    return [
        str(row.version),
        day(datetime.fromisoformat(row.created).astimezone()),
        "base" if row.parent is None else str(row.parent),
        escape(", ".join(row.tasks)),
        percent(row.average_accuracy),
        percent(row.forgetting),
        ", ".join(row.aliases),
    ]
