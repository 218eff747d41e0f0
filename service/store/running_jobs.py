"""What a controller does with jobs, under its lease: claim, follow, end.

Every function first makes sure that the lease is still held, in its own transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, or_, select

from ratchet.service.errors import InvalidTransitionError
from ratchet.service.schemas.jobs import JobError, Progress
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.leases import check_held
from ratchet.service.store.records import Job, Lease, Lineage, NewEvent, Status
from ratchet.service.store.rows import (
    JobChange,
    change_job,
    change_lineage,
    find_job,
    find_lineage,
    lock_lineage_of,
    record,
    release_lineage,
)
from ratchet.service.store.tables import jobs, keys, lineages


@dataclass(frozen=True)
class Limits:
    """What bounds a claim.

    Attributes:
        max_running_jobs: Jobs that run at a time, of all keys together.
    """

    max_running_jobs: int


def claim_next(db: Database, lease: Lease, limits: Limits) -> Job | None:
    """Start an attempt of the job whose turn it is; None when no job can run now.

    Higher priorities come first, then older jobs. A job whose lineage another update holds, or
    whose key has as many jobs running as it may, is passed over. The attempt starts from the
    lineage's champion in the database, whether or not the registry's aliases show it yet.

    Raises:
        LeaseLostError: Another controller has taken the lease.
    """
    while True:
        with db.writing() as tx:
            check_held(tx, lease, alone=True)
            if tx.value(_count_running()) >= limits.max_running_jobs:
                return None
            row = tx.one(_claimable(tx.now()))
            if row is None:
                return None
            claimed = _claim(tx, record(Job, row))
        if claimed is not None:
            return claimed
        # A user cancelled or paused it between our look and our lock: look again.


def running_jobs(db: Database) -> list[Job]:
    """The jobs that the database says run, oldest attempt first."""
    with db.reading() as tx:
        query = (
            select(jobs).where(jobs.c.status == "running").order_by(jobs.c.started_at, jobs.c.id)
        )
        return [record(Job, row) for row in tx.all(query)]


def record_events(
    db: Database,
    lease: Lease,
    job_id: str,
    attempt: int,
    told: Sequence[NewEvent],
    from_offset: int,
    to_offset: int,
    phase: str | None = None,
    progress: Progress | None = None,
) -> Job:
    """Record what a job's folder told between two offsets of its `events.jsonl`, once.

    Args:
        db: The database.
        lease: The controller's lease.
        job_id: The job.
        attempt: The attempt that runs.
        told: The events, oldest first.
        from_offset: Where the database says that the last call stopped, in bytes.
        to_offset: Where the next call begins.
        phase: The job's phase now, or None to leave it.
        progress: The job's progress now, or None to leave it.

    Raises:
        LeaseLostError: Another controller has taken the lease.
        InvalidTransitionError: The job does not run this attempt, or the offset is another one.
    """
    with db.writing() as tx:
        check_held(tx, lease)
        job = find_job(tx, job_id, locked=True)
        if job.attempt != attempt or job.events_offset != from_offset:
            raise InvalidTransitionError(
                f"job {job_id}: attempt {job.attempt} is recorded up to byte {job.events_offset}, "
                f"not attempt {attempt} up to {from_offset}. Read the job again and go on there"
            )
        values: JobChange = {"events_offset": to_offset}
        if phase is not None:
            values["phase"] = phase
        if progress is not None:
            values |= {"progress": progress, "estimated_finish": _finish(tx, progress)}
        return change_job(tx, job, ("running",), told, values)


def record_submission(db: Database, lease: Lease, job: Job, message: str) -> Job:
    """Tell that the launcher has taken an attempt.

    Raises:
        LeaseLostError: Another controller has taken the lease.
        InvalidTransitionError: The job does not run this attempt any more.
    """
    told = NewEvent(message, data={"submission": job.submission, "attempt": job.attempt})
    with db.writing() as tx:
        check_held(tx, lease)
        return change_job(tx, _running(tx, job), ("running",), (told,), {})


def requeue(db: Database, lease: Lease, job: Job, failure: JobError, pause: float) -> Job:
    """Queue a job again whose attempt was lost; it keeps its lineage.

    What a user asked for meanwhile is done instead: the job is then cancelled or paused.

    Args:
        db: The database.
        lease: The controller's lease.
        job: The job as it was claimed.
        failure: What became of the attempt.
        pause: Seconds for which it is not claimed again.

    Raises:
        LeaseLostError: Another controller has taken the lease.
        InvalidTransitionError: The job does not run this attempt any more.
    """
    why = f"Attempt {job.attempt} was lost: {failure.message}"
    told = NewEvent(why, "warn", "status", {"status": "queued", "attempt": job.attempt})
    values: JobChange = {"num_lost": job.num_lost + 1, "error": failure}
    return _queue_again(db, lease, job, told, pause, values)


def queue_stopped(db: Database, lease: Lease, job: Job) -> Job:
    """Queue a job again whose pause was taken back too late for its attempt; nothing was lost.

    What a user asked for meanwhile is done instead.

    Raises:
        LeaseLostError: Another controller has taken the lease.
        InvalidTransitionError: The job does not run this attempt any more.
    """
    data = {"status": "queued", "attempt": job.attempt}
    told = NewEvent("Stopped for the pause, goes on soon", type="status", data=data)
    return _queue_again(db, lease, job, told, 0.0, {})


def fail(db: Database, lease: Lease, job: Job, error: JobError) -> Job:
    """End a job that cannot succeed, running or still in the queue.

    Args:
        db: The database.
        lease: The controller's lease.
        job: The job as it was claimed or read.
        error: What is wrong with it.

    Raises:
        LeaseLostError: Another controller has taken the lease.
        InvalidTransitionError: The job is in another attempt, or has ended.
    """
    with db.writing() as tx:
        check_held(tx, lease)
        lock_lineage_of(tx, job)
        current = _same_attempt(tx, job)
        if current.status in ("running", "queued"):
            release_lineage(tx, current)
        told = NewEvent(error.message, "error", "status", {"status": "failed"})
        return change_job(
            tx, current, ("running", "queued"), (told,), ending(tx, "failed") | {"error": error}
        )


def end_cancelled(db: Database, lease: Lease, job: Job) -> Job:
    """End a running job whose cancellation was asked for, once its processes are gone.

    Raises:
        LeaseLostError: Another controller has taken the lease.
        InvalidTransitionError: The job does not run this attempt any more.
    """
    return _end_as_asked(db, lease, job, "cancel")


def end_paused(db: Database, lease: Lease, job: Job) -> Job:
    """Set a running job aside whose pause was asked for, once its processes are gone.

    Raises:
        LeaseLostError: Another controller has taken the lease.
        InvalidTransitionError: The job does not run this attempt, or nobody wants it paused now.
    """
    return _end_as_asked(db, lease, job, "pause")


def ending(tx: Transaction, status: Status) -> JobChange:
    """The values of a job that ends now."""
    return {
        "status": status,
        "phase": "done",
        "wanted": None,
        "finished_at": tx.now(),
        "estimated_finish": None,
    }


def _queue_again(
    db: Database, lease: Lease, job: Job, told: NewEvent, pause: float, values: JobChange
) -> Job:
    """Queue a job again, or do what a user asked of it meanwhile."""
    waiting: JobChange = {"status": "queued", "phase": "recovering", "estimated_finish": None}
    with db.writing() as tx:
        check_held(tx, lease)
        lock_lineage_of(tx, job)
        current = _running(tx, job)
        if current.wanted is not None:
            return _grant(tx, current)
        until: JobChange = {"not_before": tx.now() + pause}
        return change_job(tx, current, ("running",), (told,), waiting | until | values)


def _end_as_asked(db: Database, lease: Lease, job: Job, wanted: str) -> Job:
    with db.writing() as tx:
        check_held(tx, lease)
        lock_lineage_of(tx, job)
        current = _running(tx, job)
        if current.wanted != wanted:
            raise InvalidTransitionError(f"job {job.id}: {wanted} is not what its users want now")
        return _grant(tx, current)


def _grant(tx: Transaction, current: Job) -> Job:
    """Do what was asked of a running job."""
    release_lineage(tx, current)
    if current.wanted == "cancel":
        told = NewEvent("Cancelled", type="status", data={"status": "cancelled"})
        return change_job(tx, current, ("running",), (told,), ending(tx, "cancelled"))
    told = NewEvent("Paused; resume it to go on", type="status", data={"status": "paused"})
    values: JobChange = {
        "status": "paused",
        "phase": "waiting",
        "wanted": None,
        "estimated_finish": None,
    }
    return change_job(tx, current, ("running",), (told,), values)


def _same_attempt(tx: Transaction, job: Job) -> Job:
    current = find_job(tx, job.id, locked=True)
    if current.attempt != job.attempt:
        raise InvalidTransitionError(
            f"job {job.id}: attempt {current.attempt} is the present one, not {job.attempt}"
        )
    return current


def _running(tx: Transaction, job: Job) -> Job:
    """The job as it is, if it still runs the attempt that the controller means."""
    current = _same_attempt(tx, job)
    if current.status != "running":
        raise InvalidTransitionError(f"job {job.id}: it is {current.status}, not running")
    return current


def _count_running() -> Select[Any]:
    return select(func.count()).select_from(jobs).where(jobs.c.status == "running")


def _claimable(now: float) -> Select[Any]:
    """The job whose turn it is."""
    others = jobs.alias("others")
    running_of_key = (
        select(func.count())
        .where(others.c.status == "running", others.c.key_id == jobs.c.key_id)
        .scalar_subquery()
    )
    return (
        select(jobs)
        .outerjoin(lineages, lineages.c.name == jobs.c.lineage)
        .outerjoin(keys, keys.c.id == jobs.c.key_id)
        .where(
            jobs.c.status == "queued",
            jobs.c.not_before <= now,
            or_(
                jobs.c.kind != "update",
                lineages.c.active_job.is_(None),
                lineages.c.active_job == jobs.c.id,
            ),
            or_(keys.c.max_running_jobs.is_(None), running_of_key < keys.c.max_running_jobs),
        )
        .order_by(jobs.c.priority.desc(), jobs.c.created_at, jobs.c.id)
        .limit(1)
    )


def _claim(tx: Transaction, seen: Job) -> Job | None:
    """Take lineage and job, or neither when a user was faster."""
    lineage = _locked_lineage(tx, seen)
    job = find_job(tx, seen.id, locked=True)
    if job.status != "queued":
        return None
    parent = None
    if lineage is not None:
        parent = lineage.champion
        if lineage.active_job != job.id:
            change_lineage(tx, lineage, {"active_job": job.id})
    attempt = job.attempt + 1
    values: JobChange = {
        "status": "running",
        "phase": "starting",
        "attempt": attempt,
        "parent": parent,
        "submission": f"{job.id}-{attempt}",
        "started_at": job.started_at if job.started_at is not None else tx.now(),
        "error": None,
    }
    start = "the base model" if parent is None else f"version {parent}"
    message = f"Attempt {attempt} starts"
    message += f" from {start}" if lineage is not None else ""
    data = {"status": "running", "attempt": attempt, "parent": parent}
    return change_job(tx, job, ("queued",), (NewEvent(message, type="status", data=data),), values)


def _locked_lineage(tx: Transaction, job: Job) -> Lineage | None:
    """The lineage that an update takes, made now if this is its first."""
    if job.kind != "update":
        return None
    fresh = {"name": job.lineage, "revision": 1, "created_at": tx.now()}
    tx.insert_if_absent(lineages, fresh)
    return find_lineage(tx, str(job.lineage), locked=True)


def _finish(tx: Transaction, progress: Progress) -> float | None:
    left = progress.seconds_left
    return None if left is None else tx.now() + left
