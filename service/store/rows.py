"""Rows: locked, changed by compare-and-set, made into records. Every transition stands on these."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TypedDict, TypeVar

from sqlalchemy import RowMapping, insert, select, update

from ratchet.pipelines.files.json_value import Json
from ratchet.service.errors import InvalidTransitionError, JobNotFoundError, LineageNotFoundError
from ratchet.service.schemas.jobs import JobError, Progress
from ratchet.service.store.database import Transaction
from ratchet.service.store.records import Job, Lineage, NewEvent, Status, Wanted
from ratchet.service.store.tables import events, jobs, lineages

R = TypeVar("R")


class JobChange(TypedDict, total=False):
    """New values of a job; see `Job`."""

    status: Status
    phase: str
    progress: Progress
    wanted: Wanted | None
    attempt: int
    num_lost: int
    not_before: float
    parent: int | None
    submission: str
    events_offset: int
    result: Mapping[str, Json]
    error: JobError | None
    started_at: float
    finished_at: float
    estimated_finish: float | None


class LineageChange(TypedDict, total=False):
    """New values of a lineage; see `Lineage`."""

    base: Mapping[str, str]
    champion: int
    challenger: int | None
    active_job: str | None


def record(kind: type[R], row: RowMapping) -> R:
    """A row as its record."""
    return kind(**row)


def find_job(tx: Transaction, job_id: str, *, locked: bool = False) -> Job:
    """A job; locked, it changes no more until the transaction ends.

    Raises:
        JobNotFoundError: There is no such job.
    """
    statement = select(jobs).where(jobs.c.id == job_id)
    row = tx.one(statement.with_for_update(key_share=True) if locked else statement)
    if row is None:
        raise JobNotFoundError(f"job: there is no {job_id!r}", param="id")
    return record(Job, row)


def find_lineage(tx: Transaction, name: str, *, locked: bool = False) -> Lineage:
    """A lineage; locked, it changes no more until the transaction ends.

    Raises:
        LineageNotFoundError: There is no such lineage.
    """
    statement = select(lineages).where(lineages.c.name == name)
    row = tx.one(statement.with_for_update(key_share=True) if locked else statement)
    if row is None:
        raise LineageNotFoundError(f"lineage: there is no {name!r}", param="lineage")
    return record(Lineage, row)


def change_job(
    tx: Transaction,
    job: Job,
    allowed: Collection[Status],
    told: Sequence[NewEvent],
    values: JobChange,
) -> Job:
    """Change a job if nobody else did since it was read, and tell of it in the same transaction.

    Args:
        tx: The transaction.
        job: The job as it was read.
        allowed: The statuses that the change may start from.
        told: The events that tell of the change, oldest first.
        values: The new values by column.

    Raises:
        InvalidTransitionError: The job's status does not allow the change, or it changed meanwhile.
    """
    if job.status not in allowed:
        raise InvalidTransitionError(
            f"job {job.id}: it is {job.status}, and this is possible while "
            f"{' or '.join(allowed)} only",
            param="status",
        )
    row = tx.one(
        update(jobs)
        .where(
            jobs.c.id == job.id,
            jobs.c.status == job.status,
            jobs.c.attempt == job.attempt,
            jobs.c.revision == job.revision,
        )
        .values(
            **values,
            revision=job.revision + 1,
            num_events=job.num_events + len(told),
        )
        .returning(jobs)
    )
    if row is None:
        raise InvalidTransitionError(f"job {job.id}: it changed at this moment. Look again")
    write_events(tx, job.id, job.num_events, told)
    return record(Job, row)


def change_lineage(tx: Transaction, lineage: Lineage, values: LineageChange) -> Lineage:
    """Change a lineage if nobody else did since it was read.

    Raises:
        InvalidTransitionError: It changed meanwhile.
    """
    row = tx.one(
        update(lineages)
        .where(lineages.c.name == lineage.name, lineages.c.revision == lineage.revision)
        .values(**values, revision=lineage.revision + 1)
        .returning(lineages)
    )
    if row is None:
        raise InvalidTransitionError(f"lineage {lineage.name}: it changed at this moment")
    return record(Lineage, row)


def lock_lineage_of(tx: Transaction, job: Job) -> None:
    """Lock the lineage that a job may hold, before the job's own row: that is the order."""
    if _may_hold(job):
        find_lineage(tx, str(job.lineage), locked=True)


def release_lineage(tx: Transaction, job: Job) -> None:
    """Let the next update have the lineage, if this job holds it."""
    if not _may_hold(job):
        return
    lineage = find_lineage(tx, str(job.lineage), locked=True)
    if lineage.active_job == job.id:
        change_lineage(tx, lineage, {"active_job": None})


def _may_hold(job: Job) -> bool:
    """Whether the job is one that holds a lineage while it is attempted."""
    return job.kind == "update" and job.attempt > 0


def write_events(tx: Transaction, job_id: str, num_known: int, told: Sequence[NewEvent]) -> None:
    """Number events on from those that a job has; its row is the transaction's own.

    Args:
        tx: The transaction.
        job_id: The job.
        num_known: How many events it has.
        told: The new ones, oldest first.
    """
    if not told:
        return
    now = tx.now()
    rows = [
        {
            "job_id": job_id,
            "sequence": sequence,
            "created_at": now if new.created_at is None else new.created_at,
            "level": new.level,
            "type": new.type,
            "message": new.message,
            "data": new.data,
        }
        for sequence, new in enumerate(told, start=num_known + 1)
    ]
    tx.change(insert(events), rows)
