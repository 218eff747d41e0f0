"""Records and jobs that tests of the store begin from."""

from ratchet.service.schemas.jobs import JobError
from ratchet.service.schemas.version_facts import VersionFacts
from ratchet.service.store.asking import ask
from ratchet.service.store.finishing import succeed
from ratchet.service.store.records import NewJob, NewVersion
from ratchet.service.store.running_jobs import (
    Limits,
    claim_next,
    fail,
)
from ratchet.service.store.submitting import create_job

FACTS = VersionFacts(
    base_model={"name": "m", "kind": "classifier"},
    scenario="class_incremental",
    tasks=["banking"],
    labels=["a", "b"],
    methods=[{"type": "ewc"}],
    metrics={"average_accuracy": 0.5},
    created=5.0,
)
LOST = JobError(code="lost", message="lost")


def plan(db, number, **changes):
    """A plan in the queue."""
    return create_job(db, NewJob("plan", {"n": number}, **changes)).job


def in_status(db, lease, status):
    """An update brought to a status by the calls that lead there."""
    job = create_job(db, NewJob("update", {}, "a")).job
    if status == "queued":
        return job
    if status == "paused":
        return ask(db, job.id, "pause")
    if status == "cancelled":
        return ask(db, job.id, "cancel")
    job = claim_next(db, lease, Limits(1))
    if status == "failed":
        return fail(db, lease, job, JobError(code="data", message="bad rows"))
    if status == "succeeded":
        return succeed(db, lease, job, {}, NewVersion(1, None, FACTS, "promoted"))
    return job
