"""Jobs as clients see them: made, found, listed, and asked to cancel, pause or resume."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import RowMapping, Select, Text, cast, func, insert, literal, or_, select, tuple_

from service.errors import (
    IdempotencyMismatchError,
    InvalidRequestError,
    InvalidTransitionError,
    KeyNotFoundError,
    QuotaExceededError,
)
from service.store.audit import add as add_to_trail
from service.store.columns import canonical_json
from service.store.database import Database, Transaction
from service.store.filters import has_entry, matches_any
from service.store.records import ENDED, Job, Kind, NewEvent, NewJob, Status
from service.store.rows import (
    change_job,
    find_job,
    lock_lineage_of,
    record,
    release_lineage,
)
from service.store.tables import events, idempotency, jobs, keys

Request = Literal["cancel", "pause", "resume"]
DEDUPE_SECONDS = 600.0
"""How long the same body from the same key leads to the same job, without an idempotency key."""
_MAX_PRIORITY = 1_000_000


@dataclass(frozen=True)
class Created:
    """The job that a request led to.

    Attributes:
        job: The job as it is now.
        is_replay: Whether an earlier request had made it.
    """

    job: Job
    is_replay: bool


def create_job(
    db: Database,
    new: NewJob,
    idempotency_key: str | None = None,
    dedupe_seconds: float = DEDUPE_SECONDS,
    address: str | None = None,
) -> Created:
    """Queue a job, or find the one that the same request made before.

    Args:
        db: The database.
        new: What is asked for.
        idempotency_key: The client's name for this request.
        dedupe_seconds: Without such a name, how long the same body from the same key leads to the
            same job, as long as that has not ended and nobody cancels it.
        address: From where; given, the audit trail tells of a new job in the same transaction.

    Raises:
        IdempotencyMismatchError: The idempotency key came before with another body.
        QuotaExceededError: The key has as many jobs in the queue as it may.
        InvalidRequestError: An update without a lineage, or a priority out of range.
        KeyNotFoundError: The key does not exist.
    """
    _check(new)
    body_hash = _body_hash(new)
    with db.writing() as tx:
        limits = _locked_key(tx, new.key_id)
        job_id = new.new_id()
        earlier = _earlier(tx, new, idempotency_key, body_hash, job_id, dedupe_seconds)
        if earlier is not None:
            return Created(earlier, is_replay=True)
        _check_queue_quota(tx, limits)
        job = _insert(tx, new, job_id, body_hash)
        if address is not None:
            told = {"lineage": job.lineage}
            add_to_trail(
                tx, f"{job.kind}.create", job.id, key_id=job.key_id, detail=told, address=address
            )
        return Created(job, is_replay=False)


def find_earlier(
    db: Database,
    kind: Kind,
    request: Mapping[str, Any],
    key_id: str,
    idempotency_key: str | None = None,
) -> Job | None:
    """The job that the same request made before, if there is one: `create_job` would give it.

    Asked first, a request that came before is answered whatever has changed since.

    Args:
        db: The database.
        kind: What it asks for.
        request: What the client sent.
        key_id: Who asks.
        idempotency_key: The client's name for this request.

    Raises:
        IdempotencyMismatchError: The idempotency key came before with another body.
    """
    body_hash = _hash_of([kind, request])
    with db.reading() as tx:
        if idempotency_key is None:
            return _lately(tx, key_id, body_hash, DEDUPE_SECONDS)
        return _named(tx, key_id, idempotency_key, body_hash)


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


def ask(
    db: Database,
    job_id: str,
    request: Request,
    key_id: str | None = None,
    address: str | None = None,
) -> Job:
    """Ask something of a job: done at once where it does not run, else noted for the controller.

    Asking again for what is so already changes nothing.

    Args:
        db: The database.
        job_id: The job.
        request: What is asked.
        key_id: By whom.
        address: From where; given, the audit trail tells of it in the same transaction.

    Raises:
        JobNotFoundError: There is no such job.
        InvalidTransitionError: The job's status does not allow it.
        QuotaExceededError: The key of a job to resume has as many in the queue as it may.
    """
    with db.writing() as tx:
        seen = find_job(tx, job_id)
        limits = _locked_key(tx, seen.key_id) if request == "resume" else None
        lock_lineage_of(tx, seen)
        job = find_job(tx, job_id, locked=True)
        if job.status in ENDED and (request, job.status) != ("cancel", "cancelled"):
            message = f"it is {job.status} already, so there is nothing to {request}"
            raise InvalidTransitionError(f"job {job.id}: {message}", param="status")
        if request == "resume":
            job = _resume(tx, job, limits, key_id)
        else:
            job = (_cancel if request == "cancel" else _pause)(tx, job, key_id)
        if address is not None:
            action, told = f"{job.kind}.{request}", {"status": job.status}
            add_to_trail(tx, action, job.id, key_id=key_id, detail=told, address=address)
        return job


def _check(new: NewJob) -> None:
    if new.kind == "update" and not new.lineage:
        raise InvalidRequestError("spec.lineage: missing; an update names one", param="lineage")
    if abs(new.priority) > _MAX_PRIORITY:
        raise InvalidRequestError(
            f"priority: {new.priority} is out of range. "
            f"Give a whole number from {-_MAX_PRIORITY} to {_MAX_PRIORITY}",
            param="priority",
        )


def _body_hash(new: NewJob) -> str:
    if new.request is not None:
        return _hash_of([new.kind, new.request])
    return _hash_of([new.kind, new.lineage, new.spec, new.priority, new.metadata, new.not_before])


def _hash_of(body: Sequence[Any]) -> str:
    return hashlib.sha256(canonical_json(body).encode()).hexdigest()


def _locked_key(tx: Transaction, key_id: str | None) -> RowMapping | None:
    """A key's row, so that what is counted for it stays true until the transaction ends."""
    if key_id is None:
        return None
    row = tx.one(select(keys).where(keys.c.id == key_id).with_for_update(key_share=True))
    if row is None:
        raise KeyNotFoundError(f"key: there is no {key_id!r}")
    return row


def _earlier(
    tx: Transaction,
    new: NewJob,
    idempotency_key: str | None,
    body_hash: str,
    job_id: str,
    dedupe_seconds: float,
) -> Job | None:
    if idempotency_key is not None:
        return _replayed(tx, new.key_id or "", idempotency_key, body_hash, job_id)
    if new.key_id is None:
        return None
    return _lately(tx, new.key_id, body_hash, dedupe_seconds)


def _lately(tx: Transaction, key_id: str, body_hash: str, dedupe_seconds: float) -> Job | None:
    row = tx.one(
        select(jobs)
        .where(
            jobs.c.key_id == key_id,
            jobs.c.body_hash == body_hash,
            jobs.c.created_at > tx.now() - dedupe_seconds,
            jobs.c.status.not_in(ENDED),
            or_(jobs.c.wanted.is_(None), jobs.c.wanted != "cancel"),
        )
        .order_by(jobs.c.created_at.desc())
        .limit(1)
    )
    return None if row is None else record(Job, row)


def _replayed(
    tx: Transaction, owner: str, idempotency_key: str, body_hash: str, job_id: str
) -> Job | None:
    """Claim an idempotency key for a new job, or give the job that it led to before."""
    mine = {
        "key_id": owner,
        "idempotency_key": idempotency_key,
        "body_hash": body_hash,
        "job_id": job_id,
        "created_at": tx.now(),
    }
    if tx.insert_if_absent(idempotency, mine):
        return None
    return _named(tx, owner, idempotency_key, body_hash)


def _named(tx: Transaction, owner: str, idempotency_key: str, body_hash: str) -> Job | None:
    """The job that an idempotency key led to, or None where it is new."""
    row = tx.one(
        select(idempotency).where(
            idempotency.c.key_id == owner, idempotency.c.idempotency_key == idempotency_key
        )
    )
    if row is None:
        return None
    if row["body_hash"] != body_hash:
        raise IdempotencyMismatchError(
            f"Idempotency-Key: {idempotency_key!r} came before with another body. "
            "Send a new key with a new request",
            param="Idempotency-Key",
        )
    return find_job(tx, row["job_id"])


def _check_queue_quota(tx: Transaction, limits: RowMapping | None) -> None:
    if limits is None or limits["max_queued_jobs"] is None:
        return
    waiting = select(func.count()).where(jobs.c.key_id == limits["id"], jobs.c.status == "queued")
    if tx.value(waiting) >= limits["max_queued_jobs"]:
        raise QuotaExceededError(
            f"key {limits['name']}: it has {limits['max_queued_jobs']} jobs in the queue, as many "
            "as it may. Wait until one starts, or cancel one"
        )


def _insert(tx: Transaction, new: NewJob, job_id: str, body_hash: str) -> Job:
    now = tx.now()
    values = {
        "id": job_id,
        "kind": new.kind,
        "lineage": new.lineage,
        "status": "queued",
        "phase": "waiting",
        "spec": new.spec,
        "body_hash": body_hash,
        "priority": new.priority,
        "key_id": new.key_id,
        "metadata": new.metadata,
        "attempt": 0,
        "num_lost": 0,
        "not_before": new.not_before,
        "events_offset": 0,
        "num_events": 1 + len(new.told),
        "created_at": now,
        "revision": 1,
    }
    tx.change(insert(jobs).values(**values))
    accepted = NewEvent("Accepted, waits in the queue", type="status", data={"status": "queued"})
    rows = [
        {
            "job_id": job_id,
            "sequence": sequence,
            "created_at": now,
            "level": told.level,
            "type": told.type,
            "message": told.message,
            "data": told.data,
        }
        for sequence, told in enumerate((accepted, *new.told), start=1)
    ]
    tx.change(insert(events), rows)
    return find_job(tx, job_id)


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


def _told(status: str, message: str, key_id: str | None) -> tuple[NewEvent, ...]:
    data = {"status": status} if key_id is None else {"status": status, "key_id": key_id}
    return (NewEvent(message, type="status", data=data),)


def _cancel(tx: Transaction, job: Job, key_id: str | None) -> Job:
    if job.status == "cancelled" or job.wanted == "cancel":
        return job
    if job.status == "running":
        told = _told("running", "Cancellation was asked for", key_id)
        return change_job(tx, job, ("running",), told, {"wanted": "cancel"})
    release_lineage(tx, job)
    told = _told("cancelled", "Cancelled before it ran on", key_id)
    values = {"status": "cancelled", "phase": "done", "finished_at": tx.now(), "wanted": None}
    return change_job(tx, job, ("queued", "paused"), told, values)


def _pause(tx: Transaction, job: Job, key_id: str | None) -> Job:
    if job.status == "paused" or job.wanted == "pause":
        return job
    if job.wanted == "cancel":
        raise InvalidTransitionError(f"job {job.id}: it is being cancelled", param="status")
    if job.status == "running":
        told = _told("running", "A pause was asked for", key_id)
        return change_job(tx, job, ("running",), told, {"wanted": "pause"})
    release_lineage(tx, job)
    told = _told("paused", "Paused; resume it to go on", key_id)
    return change_job(tx, job, ("queued",), told, {"status": "paused", "phase": "waiting"})


def _resume(tx: Transaction, job: Job, limits: RowMapping | None, key_id: str | None) -> Job:
    if job.status == "queued" or (job.status == "running" and job.wanted is None):
        return job
    if job.wanted == "cancel":
        raise InvalidTransitionError(f"job {job.id}: it is being cancelled", param="status")
    if job.status == "running":
        told = _told("running", "The pause was taken back", key_id)
        return change_job(tx, job, ("running",), told, {"wanted": None})
    if job.status == "paused":
        _check_queue_quota(tx, limits)
    told = _told("queued", "Resumed, waits in the queue", key_id)
    return change_job(tx, job, ("paused",), told, {"status": "queued", "phase": "waiting"})
