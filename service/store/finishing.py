"""The end of a job that did what it was asked: result, version, decision and status at once."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import or_, update

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.files.json_value import Json
from ratchet.service.errors import InvalidTransitionError
from ratchet.service.store.database import Database, Transaction
from ratchet.service.store.leases import check_held
from ratchet.service.store.promotions import decide
from ratchet.service.store.records import Decision, Job, Lease, Lineage, NewEvent, NewVersion
from ratchet.service.store.rows import (
    change_job,
    change_lineage,
    find_job,
    find_lineage,
    lock_lineage_of,
    release_lineage,
)
from ratchet.service.store.running_jobs import ending
from ratchet.service.store.tables import versions


def succeed(
    db: Database,
    lease: Lease,
    job: Job,
    result: Mapping[str, Json],
    version: NewVersion | None = None,
) -> Job:
    """End a job with its result, in one transaction with its version and the decision about it.

    A version that the gate lets pass becomes champion only while the champion is still the one that
    it was held against: where a user promoted or rolled back meanwhile, it waits as challenger. So
    does the version of a job whose cancellation was accepted, be it a moment ago.

    Args:
        db: The database.
        lease: The controller's lease.
        job: The job as it was claimed.
        result: What the job returned.
        version: The version that an update has written.

    Raises:
        LeaseLostError: Another controller has taken the lease.
        InvalidTransitionError: The job does not run this attempt any more.
        VersionError: Another job's version has the number, which trying again does not mend.
    """
    with db.writing() as tx:
        check_held(tx, lease)
        lock_lineage_of(tx, job)
        current = find_job(tx, job.id, locked=True)
        if current.attempt != job.attempt:
            raise InvalidTransitionError(
                f"job {job.id}: attempt {current.attempt} is the present one, not {job.attempt}"
            )
        values = ending(tx, "succeeded") | {"result": result, "error": None}
        if version is None or current.status != "running":
            told = NewEvent("Succeeded", type="status", data={"status": "succeeded"})
            ended = change_job(tx, current, ("running",), (told,), values)
            release_lineage(tx, current)
            return ended
        told = _decided(tx, current, version)
        return change_job(tx, current, ("running",), (told,), values)


def _decided(tx: Transaction, job: Job, version: NewVersion) -> NewEvent:
    """Write version and decision, let the lineage go, and say what was decided."""
    lineage = find_lineage(tx, str(job.lineage), locked=True)
    if lineage.active_job != job.id:
        raise InvalidTransitionError(
            f"job {job.id}: it does not hold {lineage.name}, so it cannot add a version to it"
        )
    if lineage.base is None and version.base is not None:
        lineage = change_lineage(tx, lineage, {"base": version.base})
    _write_version(tx, job, version)
    decision, reasons = _verdict(lineage, job, version)
    decide(tx, lineage, version.number, decision, job_id=job.id, reasons=reasons, release=True)
    told = f"Succeeded: version {version.number} was {decision}"
    data = {
        "status": "succeeded",
        "version": version.number,
        "decision": decision,
        "reasons": list(reasons),
    }
    return NewEvent(told, type="status", data=data)


def _verdict(lineage: Lineage, job: Job, version: NewVersion) -> tuple[Decision, tuple[str, ...]]:
    reasons = tuple(version.reasons)
    if version.decision == "promoted" and job.wanted == "cancel":
        late = "the job was to be cancelled, and its version waits; promote it by hand if it should"
        return "refused", (*reasons, late)
    if version.decision == "promoted" and lineage.champion != job.parent:
        moved = (
            f"the champion became {lineage.champion} while the job, which started from "
            f"{job.parent}, ran; promote the version by hand if it is to replace that"
        )
        return "refused", (*reasons, moved)
    return version.decision, reasons


def _write_version(tx: Transaction, job: Job, version: NewVersion) -> None:
    values = {
        "lineage": job.lineage,
        "number": version.number,
        "job_id": job.id,
        "parent": version.parent,
        "manifest": version.manifest,
        "created_at": tx.now(),
    }
    if tx.insert_if_absent(versions, values):
        return
    # It may have been taken in from the home before its job reported it.
    mine = (
        update(versions)
        .where(
            versions.c.lineage == job.lineage,
            versions.c.number == version.number,
            or_(versions.c.job_id.is_(None), versions.c.job_id == job.id),
        )
        .values(job_id=job.id, parent=version.parent, manifest=version.manifest)
    )
    if tx.change(mine) != 1:
        raise VersionError(
            f"version: {job.lineage}@{version.number} is another job's already. The database and "
            "the home are not of one service: see that RATCHET_HOME is the right one"
        )
