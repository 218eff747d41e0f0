"""Jobs made from requests, each once, however often it is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import insert, or_, select

from ratchet.service.errors import (
    IdempotencyMismatchError,
    InvalidRequestError,
)
from ratchet.service.store.audit import add as add_to_trail
from ratchet.service.store.columns import canonical_json
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.quotas import check_queue_quota, locked_key
from ratchet.service.store.records import ENDED, Job, Kind, NewEvent, NewJob
from ratchet.service.store.rows import (
    find_job,
    record,
)
from ratchet.service.store.tables import events, idempotency, jobs

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
        limits = locked_key(tx, new.key_id)
        job_id = new.new_id()
        earlier = _earlier(tx, new, idempotency_key, body_hash, job_id, dedupe_seconds)
        if earlier is not None:
            return Created(earlier, is_replay=True)
        check_queue_quota(tx, limits)
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
