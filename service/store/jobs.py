"""Jobs found, listed and counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Select, Text, cast, func, literal, or_, select, tuple_

from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.filters import has_entry, matches_any
from ratchet.service.store.records import ENDED, Job, Kind, Status
from ratchet.service.store.rows import find_job, record
from ratchet.service.store.tables import jobs


def get_job(db: Database, job_id: str) -> Job:
    """A job by its id.

    Raises:
        JobNotFoundError: There is no such job.
    """
    with db.reading() as tx:
        return find_job(tx, job_id)


def list_jobs(
    db: Database,
    *,
    kind: Kind | None = None,
    lineage: str | None = None,
    globs: tuple[str, ...] = ("*",),
    status: Status | None = None,
    metadata: Mapping[str, str] | None = None,
    after: str | None = None,
    limit: int = 20,
) -> list[Job]:
    """Jobs, newest first.

    Args:
        db: The database.
        kind: Only this kind.
        lineage: Only this lineage.
        globs: Only lineages that one of these matches; jobs of no lineage match `*` only.
        status: Only this status.
        metadata: Only jobs with all of these entries.
        after: The id of the last job of the page before.
        limit: How many at most.

    Raises:
        JobNotFoundError: `after` names no job.
    """
    with db.reading() as tx:
        query = _restricted(tx, select(jobs), kind, lineage, globs, status, metadata or {})
        if after is not None:
            last = find_job(tx, after)
            query = query.where(
                tuple_(jobs.c.created_at, jobs.c.id)
                < tuple_(literal(last.created_at), literal(last.id))
            )
        newest_first = query.order_by(jobs.c.created_at.desc(), jobs.c.id.desc())
        return [record(Job, row) for row in tx.all(newest_first.limit(limit))]


def living_job_with(db: Database, word: str) -> Job | None:
    """A job that has not ended and whose spec or metadata hold a word, such as an upload's id.

    Args:
        db: The database.
        word: Letters, digits and hyphens.
    """
    holds = (cast(column, Text).contains(word) for column in (jobs.c.spec, jobs.c.metadata))
    query = select(jobs).where(jobs.c.status.not_in(ENDED), or_(*holds)).limit(1)
    with db.reading() as tx:
        row = tx.one(query)
        return None if row is None else record(Job, row)


def count_jobs(db: Database) -> dict[tuple[Kind, Status], int]:
    """How many jobs there are, by kind and status."""
    query = select(jobs.c.kind, jobs.c.status, func.count().label("count"))
    with db.reading() as tx:
        rows = tx.all(query.group_by(jobs.c.kind, jobs.c.status))
        return {(row["kind"], row["status"]): row["count"] for row in rows}


def _restricted(
    tx: Transaction,
    query: Select[Any],
    kind: str | None,
    lineage: str | None,
    globs: tuple[str, ...],
    status: str | None,
    metadata: Mapping[str, str],
) -> Select[Any]:
    for column, wanted in (
        (jobs.c.kind, kind),
        (jobs.c.lineage, lineage),
        (jobs.c.status, status),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    for name, value in metadata.items():
        query = query.where(has_entry(tx, jobs.c.metadata, name, value))
    return query.where(matches_any(tx, jobs.c.lineage, globs))
