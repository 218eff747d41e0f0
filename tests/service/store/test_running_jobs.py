"""Covers, beside `running_jobs`: `finishing`, `records`, `rows`.

Jobs as a controller moves them: claimed in turn, lost, tried again, ended.
"""

import time

from ratchet.service.schemas.jobs import JobError, Progress
from ratchet.service.store.events import list_events
from ratchet.service.store.finishing import succeed
from ratchet.service.store.jobs import get_job, list_jobs
from ratchet.service.store.keys import create_key
from ratchet.service.store.lineages import get_lineage, list_promotions
from ratchet.service.store.records import NewEvent, NewJob, NewVersion
from ratchet.service.store.running_jobs import (
    Limits,
    claim_next,
    record_events,
    requeue,
)
from ratchet.service.store.submitting import create_job
from tests.service.store.samples import FACTS, LOST, in_status, plan


def test_an_update_goes_from_the_queue_over_a_lost_attempt_to_its_promotion(db, lease, key):
    made = create_job(db, NewJob("update", {"lineage": "a"}, "a", key_id=key.id)).job
    first = claim_next(db, lease, Limits(2))
    assert (first.id, first.status, first.attempt, first.parent) == (made.id, "running", 1, None)
    assert first.submission == f"{made.id}-1"
    told = [NewEvent("step 1", type="metrics", data={"loss": float("nan")})]
    record_events(db, lease, first.id, 1, told, 0, 10, "training", Progress(seconds_left=5))
    requeue(db, lease, first, JobError(code="lost", message="the node died"), 0.0)
    assert get_lineage(db, "a").active_job == made.id
    second = claim_next(db, lease, Limits(2))
    assert (second.attempt, second.num_lost) == (2, 1)
    version = NewVersion(1, None, FACTS, "promoted", base={"name": "m"})
    done = succeed(db, lease, second, {"ok": 1}, version)
    lineage = get_lineage(db, "a")
    assert (lineage.champion, lineage.challenger, lineage.active_job) == (1, None, None)
    assert [event.message for event in list_events(db, made.id)] == [
        "Accepted, waits in the queue",
        "Attempt 1 starts from the base model",
        "step 1",
        "Attempt 1 was lost: the node died",
        "Attempt 2 starts from the base model",
        "Succeeded: version 1 was promoted",
    ]
    assert [event.sequence for event in list_events(db, made.id)] == list(range(1, 7))
    assert [p.kind for p in list_promotions(db, "a")] == ["promoted"]
    assert list_jobs(db) == [get_job(db, made.id)] == [done]


def test_a_lost_attempt_is_followed_by_another_after_its_pause_and_no_sooner(db, lease):
    job = in_status(db, lease, "running")
    queued = requeue(db, lease, job, LOST, 0.3)
    assert (queued.num_lost, queued.attempt, queued.phase) == (1, 1, "recovering")
    assert claim_next(db, lease, Limits(1)) is None
    time.sleep(0.4)
    assert claim_next(db, lease, Limits(1)).attempt == 2


def test_the_queue_gives_higher_priorities_first_and_then_older_jobs(db, lease):
    order = [plan(db, n, priority=priority) for n, priority in enumerate((0, 5, 0, 5, -1))]
    claimed = [claim_next(db, lease, Limits(9)).id for _ in order]
    assert claimed == [order[n].id for n in (1, 3, 0, 2, 4)]
    assert claim_next(db, lease, Limits(9)) is None


def test_a_claim_passes_over_what_may_not_run_yet(db, lease, key):
    one = create_key(db, "bob", "submitter", max_running_jobs=1)[0]
    plan(db, 0, priority=9, not_before=4e9)
    first = plan(db, 1, priority=8, key_id=one.id)
    plan(db, 2, priority=7, key_id=one.id)
    third = plan(db, 3, priority=6, key_id=key.id)
    assert [claim_next(db, lease, Limits(9)).id for _ in range(2)] == [first.id, third.id]
    assert claim_next(db, lease, Limits(9)) is None
    succeed(db, lease, get_job(db, first.id), {})
    assert claim_next(db, lease, Limits(1)) is None  # one runs already
    assert claim_next(db, lease, Limits(2)).spec == {"n": 2}
