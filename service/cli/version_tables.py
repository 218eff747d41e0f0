"""Versions and lineages as tables or JSON, wherever they were read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from rich.markup import escape
from rich.table import Table

from ratchet.service.cli.session import Session


def say_versions(session: Session, lineage: str, rows: Sequence[dict[str, Any]]) -> None:
    """The versions of a lineage."""
    if session.as_json:
        session.emit({"lineage": lineage, "versions": rows})
        return
    table = Table(show_edge=False)
    for name in ("version", "created", "from", "tasks", "average accuracy", "forgetting", "is"):
        table.add_column(name, no_wrap=name != "tasks")
    for row in rows:
        table.add_row(*_cells(row))
    session.out.print(table)


def say_lineages(
    session: Session, rows: Sequence[dict[str, Any]], where: str, next_step: str
) -> None:
    """The lineages that exist."""
    if session.as_json:
        session.emit({"lineages": rows})
        return
    if not rows:
        session.out.print(f"No lineage {escape(where)} yet. Next: {next_step}", soft_wrap=True)
        return
    table = Table(show_edge=False)
    for header in ("lineage", "versions", "champion", "challenger"):
        table.add_column(header)
    for row in rows:
        table.add_row(escape(row["lineage"]), str(len(row["versions"])), *_aliases(row))
    session.out.print(table)


def _aliases(row: dict[str, Any]) -> list[str]:
    return [str(row[alias] or "·") for alias in ("champion", "challenger")]


def _cells(row: dict[str, Any]) -> list[str]:
    def percent(value: float | None) -> str:
        return "·" if value is None else f"{100 * value:.1f} %"

    return [
        str(row["version"]),
        datetime.fromisoformat(row["created"]).astimezone().strftime("%Y-%m-%d %H:%M"),
        "base" if row["parent"] is None else str(row["parent"]),
        escape(", ".join(row["tasks"])),
        percent(row["average_accuracy"]),
        percent(row["forgetting"]),
        ", ".join(row["aliases"]),
    ]
