"""Conditions that the two databases write differently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Column, ColumnElement, column, false, func, or_, select, true

from ratchet.service.store.columns import storable
from ratchet.service.store.database import Transaction


def has_entry(tx: Transaction, place: Column[Any], name: str, value: str) -> ColumnElement[bool]:
    """Whether a JSON object has an entry, whatever characters its name is of."""
    expand = func.json_each_text if tx.is_postgres else func.json_each
    entries = expand(place).table_valued(column("key"), column("value"))
    return (
        select(1)
        .select_from(entries)
        .where(entries.c.key == storable(name), entries.c.value == storable(value))
        .exists()
    )


def matches_any(
    tx: Transaction, place: Column[str] | Column[str | None], globs: tuple[str, ...]
) -> ColumnElement[bool]:
    """Whether a name matches one of some globs (`*` any text, `?` one character, [ab] one of two).

    A name that is null is matched by `*` only.
    """
    if "*" in globs:
        return true()
    return or_(false(), *(_matches(tx, place, glob) for glob in globs))


def _matches(
    tx: Transaction, place: Column[str] | Column[str | None], glob: str
) -> ColumnElement[bool]:
    if not tx.is_postgres:
        return place.op("GLOB", is_comparison=True)(storable(glob))
    escaped = glob.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return place.like(storable(escaped).replace("*", "%").replace("?", "_"), escape="\\")
