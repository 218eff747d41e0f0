"""What may be asked of a job: to be cancelled, paused, resumed."""

from __future__ import annotations

from typing import Literal

from sqlalchemy import RowMapping

from ratchet.service.errors import InvalidTransitionError
from ratchet.service.store.audit import add as add_to_trail
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.quotas import check_queue_quota, locked_key
from ratchet.service.store.records import ENDED, Job, NewEvent
from ratchet.service.store.rows import (
    JobChange,
    change_job,
    find_job,
    lock_lineage_of,
    release_lineage,
)

Request = Literal["cancel", "pause", "resume"]


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
        limits = locked_key(tx, seen.key_id) if request == "resume" else None
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
    values: JobChange = {
        "status": "cancelled",
        "phase": "done",
        "finished_at": tx.now(),
        "wanted": None,
    }
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
        check_queue_quota(tx, limits)
    told = _told("queued", "Resumed, waits in the queue", key_id)
    return change_job(tx, job, ("paused",), told, {"status": "queued", "phase": "waiting"})
