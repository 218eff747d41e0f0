"""What must hold of a database whatever was done to it, in which order and by how many."""

from itertools import pairwise

from sqlalchemy import func, select

from ratchet.service.store.events import list_events
from ratchet.service.store.jobs import list_jobs
from ratchet.service.store.lineages import (
    get_lineage,
    list_lineages,
    list_promotions,
    list_versions,
)
from ratchet.service.store.records import ENDED
from ratchet.service.store.tables import jobs, lineages

ALLOWED = {
    "queued": {"running", "paused", "cancelled", "failed"},
    "running": {"running", "queued", "paused", "succeeded", "failed", "cancelled"},
    "paused": {"queued", "cancelled"},
}


def check_present(db):
    """What holds at every moment: an update that runs holds its lineage, alone."""
    running = jobs.c.kind == "update", jobs.c.status == "running"
    stray = (
        select(func.count())
        .select_from(jobs.outerjoin(lineages, lineages.c.name == jobs.c.lineage))
        .where(*running, lineages.c.active_job.is_distinct_from(jobs.c.id))
    )
    twice = select(func.count()).select_from(
        select(jobs.c.lineage)
        .where(*running)
        .group_by(jobs.c.lineage)
        .having(func.count() > 1)
        .subquery()
    )
    with db.reading() as tx:
        assert tx.value(stray) == 0
        assert tx.value(twice) == 0


def check_job(db, job):
    """A job's events are numbered without gaps and tell one lawful story."""
    told = list_events(db, job.id, limit=100_000)
    assert [event.sequence for event in told] == list(range(1, job.num_events + 1))
    statuses = [event.data["status"] for event in told if event.type == "status"]
    assert statuses[0] == "queued"
    assert statuses[-1] == job.status
    for before, after in pairwise(statuses):
        assert after in ALLOWED.get(before, set()), (job.id, statuses)
    assert sum(status in ENDED for status in statuses) == job.has_ended
    assert (job.finished_at is not None) == job.has_ended
    starts = [
        event.data["attempt"]
        for event in told
        if event.message.startswith("Attempt ") and " starts" in event.message
    ]
    assert starts == list(range(1, job.attempt + 1))


def check_lineage(db, lineage):
    """A lineage's decisions are numbered without gaps, chained, and lead to its champion."""
    decisions = list_promotions(db, lineage.name, limit=100_000)[::-1]
    assert [decision.sequence for decision in decisions] == list(range(1, len(decisions) + 1))
    champion = None
    for decision in decisions:
        assert decision.previous == champion, decisions
        if decision.kind != "refused":
            assert decision.version != champion
            champion = decision.version
    assert lineage.champion == champion
    by_jobs = [d.job_id for d in decisions if d.kind in ("promoted", "refused")]
    assert len(by_jobs) == len(set(by_jobs))
    made = {version.job_id for version in list_versions(db, lineage.name, limit=100_000)}
    assert made == set(by_jobs)


def check_story(db):
    """Everything, once nothing runs any more."""
    check_present(db)
    every = list_jobs(db, limit=100_000)
    for job in every:
        check_job(db, job)
    for lineage in list_lineages(db):
        check_lineage(db, get_lineage(db, lineage.name))
        assert lineage.active_job is None
        decided = {d.job_id for d in list_promotions(db, lineage.name, limit=100_000)}
        for job in every:
            if job.lineage == lineage.name and job.kind == "update":
                assert (job.id in decided) == (job.status == "succeeded")
    return every
