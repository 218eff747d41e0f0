"""Jobs made from requests, each once, however often it is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import insert

from ratchet.service.errors import InvalidRequestError
from ratchet.service.store.audit import add as add_to_trail
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.earlier_requests import DEDUPE_SECONDS, body_hash_of, claim_request
from ratchet.service.store.quotas import check_queue_quota, locked_key
from ratchet.service.store.records import Job, NewEvent, NewJob
from ratchet.service.store.rows import find_job, write_events
from ratchet.service.store.tables import jobs

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
    body_hash = body_hash_of(new)
    with db.writing() as tx:
        limits = locked_key(tx, new.key_id)
        job_id = new.new_id()
        earlier = claim_request(tx, new, idempotency_key, body_hash, job_id, dedupe_seconds)
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


def _check(new: NewJob) -> None:
    if new.kind == "update" and not new.lineage:
        raise InvalidRequestError("spec.lineage: missing; an update names one", param="lineage")
    if abs(new.priority) > _MAX_PRIORITY:
        raise InvalidRequestError(
            f"priority: {new.priority} is out of range. "
            f"Give a whole number from {-_MAX_PRIORITY} to {_MAX_PRIORITY}",
            param="priority",
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
    write_events(tx, job_id, 0, (accepted, *new.told))
    return find_job(tx, job_id)
