"""A job's events, as clients read them."""

from __future__ import annotations

from sqlalchemy import select

from ratchet.service.store.database import Database
from ratchet.service.store.records import Event, EventType
from ratchet.service.store.rows import record
from ratchet.service.store.tables import events

_LAST_SEQUENCE = 2**31 - 1
"""What the column can hold; PostgreSQL refuses to compare it with more."""


def list_events(
    db: Database, job_id: str, after_sequence: int = 0, limit: int = 100
) -> list[Event]:
    """Events of a job after a sequence number, oldest first; none for a job that is unknown."""
    query = (
        select(events)
        .where(events.c.job_id == job_id, events.c.sequence > min(after_sequence, _LAST_SEQUENCE))
        .order_by(events.c.sequence)
        .limit(limit)
    )
    with db.reading() as tx:
        return [record(Event, row) for row in tx.all(query)]


def list_latest_events(
    db: Database,
    job_id: str,
    before_sequence: int | None = None,
    limit: int = 100,
    kind: EventType | None = None,
) -> list[Event]:
    """Events of a job, newest first; `before_sequence` is the last of the page before."""
    query = select(events).where(events.c.job_id == job_id)
    if before_sequence is not None:
        query = query.where(events.c.sequence < min(before_sequence, _LAST_SEQUENCE))
    if kind is not None:
        query = query.where(events.c.type == kind)
    with db.reading() as tx:
        rows = tx.all(query.order_by(events.c.sequence.desc()).limit(limit))
        return [record(Event, row) for row in rows]
