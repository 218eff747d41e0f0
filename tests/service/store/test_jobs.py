"""Covers, beside `jobs`: `asking`, `events`, `finishing`, `quotas`, `records`, `rows`,
`running_jobs`, `submitting`.

Jobs: what may become of them, who comes first, and what the same request leads to.
"""

import time
from dataclasses import replace

import pytest

from ratchet.service.errors import (
    IdempotencyMismatchError,
    InvalidRequestError,
    InvalidTransitionError,
    JobNotFoundError,
    KeyNotFoundError,
    QuotaExceededError,
)
from ratchet.service.store.asking import ask
from ratchet.service.store.events import list_events
from ratchet.service.store.finishing import succeed
from ratchet.service.store.jobs import get_job, list_jobs
from ratchet.service.store.keys import create_key
from ratchet.service.store.lineages import get_lineage, list_promotions
from ratchet.service.store.records import NewEvent, NewJob, NewVersion
from ratchet.service.store.running_jobs import (
    Limits,
    claim_next,
    end_cancelled,
    end_paused,
    fail,
    record_events,
    requeue,
)
from ratchet.service.store.submitting import create_job, find_earlier
from tests.service.store.story import check_job


def test_an_update_goes_from_the_queue_over_a_lost_attempt_to_its_promotion(db, lease, key):
    made = create_job(db, NewJob("update", {"lineage": "a"}, "a", key_id=key.id)).job
    first = claim_next(db, lease, Limits(2))
    assert (first.id, first.status, first.attempt, first.parent) == (made.id, "running", 1, None)
    assert first.submission == f"{made.id}-1"
    told = [NewEvent("step 1", type="metrics", data={"loss": float("nan")})]
    record_events(db, lease, first.id, 1, told, 0, 10, "training", {"seconds_left": 5})
    requeue(db, lease, first, {"message": "the node died"}, 0.0)
    assert get_lineage(db, "a").active_job == made.id
    second = claim_next(db, lease, Limits(2))
    assert (second.attempt, second.num_lost) == (2, 1)
    version = NewVersion(1, None, {}, "promoted", base={"name": "m"})
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


def test_what_is_being_cancelled_is_not_what_the_same_request_leads_to(db, lease, key):
    new = NewJob("update", {"n": 1}, "a", key_id=key.id)
    first = create_job(db, new).job
    claim_next(db, lease, Limits(1))
    assert create_job(db, new).job.id == first.id
    ask(db, first.id, "cancel")
    second = create_job(db, new).job
    assert second.id != first.id
    assert create_job(db, new).job.id == second.id


@pytest.mark.parametrize("name", [None, "once"])
def test_a_request_is_known_by_what_was_sent_whatever_was_made_of_it(db, key, name):
    sent = {"model": "a", "training_file": "file-1"}
    assert find_earlier(db, "update", sent, key.id, name) is None
    new = NewJob("update", {"from": "before"}, "a", key_id=key.id, request=sent)
    made = create_job(db, new, name).job
    assert find_earlier(db, "update", sent, key.id, name) == made
    assert create_job(db, replace(new, spec={"from": "after"}), name).job == made
    assert find_earlier(db, "study", sent, key.id) is None
    assert find_earlier(db, "update", sent, create_key(db, "bob", "submitter")[0].id, name) is None


def test_an_idempotency_key_is_looked_up_with_the_body_it_came_with(db, key):
    create_job(db, NewJob("update", {}, "a", key_id=key.id, request={"n": 1}), "once")
    with pytest.raises(IdempotencyMismatchError):
        find_earlier(db, "update", {"n": 2}, key.id, "once")


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
        return fail(db, lease, job, {"code": "data", "message": "bad rows"})
    if status == "succeeded":
        return succeed(db, lease, job, {}, NewVersion(1, None, {}, "promoted"))
    return job


@pytest.mark.parametrize(
    ("status", "request_", "after"),
    [
        ("queued", "cancel", ("cancelled", None)),
        ("queued", "pause", ("paused", None)),
        ("queued", "resume", ("queued", None)),
        ("running", "cancel", ("running", "cancel")),
        ("running", "pause", ("running", "pause")),
        ("running", "resume", ("running", None)),
        ("paused", "cancel", ("cancelled", None)),
        ("paused", "pause", ("paused", None)),
        ("paused", "resume", ("queued", None)),
        ("cancelled", "cancel", ("cancelled", None)),
        *[("cancelled", request, None) for request in ("pause", "resume")],
        *[("failed", request, None) for request in ("cancel", "pause", "resume")],
        *[("succeeded", request, None) for request in ("cancel", "pause", "resume")],
    ],
)
def test_what_may_be_asked_of_a_job_follows_from_its_status(db, lease, status, request_, after):
    job = in_status(db, lease, status)
    if after is None:
        with pytest.raises(
            InvalidTransitionError,
            match=f"it is {status} already, so there is nothing to {request_}",
        ):
            ask(db, job.id, request_)
        assert get_job(db, job.id) == job
        return
    for _ in range(2):  # asking again changes nothing
        asked = ask(db, job.id, request_)
        assert (asked.status, asked.wanted) == after
    assert asked.revision - job.revision == (after != (job.status, job.wanted))
    check_job(db, asked)


@pytest.mark.parametrize(("request_", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_what_is_asked_of_a_lost_attempt_is_granted_and_frees_the_lineage(
    db, lease, request_, status
):
    job = in_status(db, lease, "running")
    ask(db, job.id, request_)
    assert requeue(db, lease, job, {"message": "lost"}, 0.0).status == status
    assert get_lineage(db, "a").active_job is None
    check_job(db, get_job(db, job.id))


def test_a_lost_attempt_is_followed_by_another_after_its_pause_and_no_sooner(db, lease):
    job = in_status(db, lease, "running")
    queued = requeue(db, lease, job, {"message": "lost"}, 0.3)
    assert (queued.num_lost, queued.attempt, queued.phase) == (1, 1, "recovering")
    assert claim_next(db, lease, Limits(1)) is None
    time.sleep(0.4)
    assert claim_next(db, lease, Limits(1)).attempt == 2


@pytest.mark.parametrize(("request_", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_job_that_waits_for_another_attempt_frees_its_lineage_when_asked(
    db, lease, request_, status
):
    job = in_status(db, lease, "running")
    requeue(db, lease, job, {"message": "lost"}, 0.0)
    assert ask(db, job.id, request_).status == status
    assert get_lineage(db, "a").active_job is None
    check_job(db, get_job(db, job.id))


def test_a_cancellation_is_not_replaced_by_a_pause_and_a_pause_is_taken_back(db, lease):
    job = in_status(db, lease, "running")
    ask(db, job.id, "pause")
    assert ask(db, job.id, "resume").wanted is None
    with pytest.raises(InvalidTransitionError, match="pause is not what"):
        end_paused(db, lease, job)
    ask(db, job.id, "cancel")
    for request in ("pause", "resume"):
        with pytest.raises(InvalidTransitionError, match="being cancelled"):
            ask(db, job.id, request)
    assert end_cancelled(db, lease, job).status == "cancelled"


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


def test_a_queue_quota_counts_what_waits_and_what_is_resumed_but_no_replay(db, lease):
    key = create_key(db, "bob", "submitter", max_queued_jobs=1)[0]
    first = create_job(db, NewJob("plan", {}, key_id=key.id), "once")
    ask(db, first.job.id, "pause")
    second = plan(db, 2, key_id=key.id)
    with pytest.raises(QuotaExceededError, match="1 jobs in the queue"):
        plan(db, 3, key_id=key.id)
    with pytest.raises(QuotaExceededError):
        ask(db, first.job.id, "resume")
    assert create_job(db, NewJob("plan", {}, key_id=key.id), "once").is_replay
    ask(db, second.id, "cancel")
    assert ask(db, first.job.id, "resume").status == "queued"


def test_an_idempotency_key_leads_to_its_job_and_refuses_another_body(db, key):
    new = NewJob("update", {"b": 1, "a": [1, 2]}, "a", key_id=key.id)
    made = create_job(db, new, "k")
    again = create_job(db, replace(new, spec={"a": [1, 2], "b": 1}), "k")
    assert (again.job, again.is_replay) == (made.job, True)
    with pytest.raises(IdempotencyMismatchError, match="another body"):
        create_job(db, replace(new, priority=1), "k")
    ask(db, made.job.id, "cancel")
    assert create_job(db, new, "k").job.status == "cancelled"
    other = create_key(db, "bob", "submitter")[0]
    assert not create_job(db, replace(new, key_id=other.id), "k").is_replay


def test_the_same_body_from_one_key_is_one_job_for_a_while_and_until_it_ends(db, key):
    new = NewJob("update", {}, "a", key_id=key.id)
    made = create_job(db, new).job
    assert create_job(db, new).job == made
    assert not create_job(db, new, dedupe_seconds=0.0).is_replay
    for job in list_jobs(db):
        ask(db, job.id, "cancel")
    assert not create_job(db, new).is_replay
    assert not create_job(db, NewJob("plan", {})).is_replay
    assert not create_job(db, NewJob("plan", {})).is_replay


@pytest.mark.parametrize(
    ("new", "what"),
    [(NewJob("update", {}), "lineage"), (NewJob("plan", {}, priority=2**40), "range")],
)
def test_a_job_that_cannot_be_is_refused(db, new, what):
    with pytest.raises(InvalidRequestError, match=what):
        create_job(db, new)
    with pytest.raises(KeyNotFoundError):
        create_job(db, NewJob("plan", {}, key_id="key-none"))
    assert list_jobs(db) == []


def test_lists_are_filtered_and_paged_newest_first(db, lease):
    made = [plan(db, n, lineage=f"l{n % 2}", metadata={"n": str(n)}) for n in range(5)]
    newest_first = [job.id for job in made[::-1]]
    assert [job.id for job in list_jobs(db)] == newest_first
    assert [job.id for job in list_jobs(db, limit=2)] == newest_first[:2]
    assert [job.id for job in list_jobs(db, after=newest_first[1], limit=2)] == newest_first[2:4]
    assert [job.spec["n"] for job in list_jobs(db, lineage="l1")] == [3, 1]
    assert [job.spec["n"] for job in list_jobs(db, metadata={"n": "3"})] == [3]
    assert list_jobs(db, kind="update") == list_jobs(db, status="running") == []
    with pytest.raises(JobNotFoundError):
        list_jobs(db, after="ftjob-none")


ODD = ['"', "\\", "$.a", "a.b", "0", "[0]", "'", "é", "😀", "a\x00b", "\ud800", "%", "x" * 64, ""]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_any_text_can_be_stored_and_found_again(db, name):
    job = plan(db, 0, metadata={name: name, "other": "x"})
    plan(db, 1, metadata={"other": name})
    assert [found.id for found in list_jobs(db, metadata={name: name})] == [job.id]
    assert list_jobs(db, metadata={name: name, "other": "y"}) == []
    expected = name.replace("\x00", "�").replace("\ud800", "�")
    assert get_job(db, job.id).metadata == {expected: expected, "other": "x"}


def test_events_hold_any_text_and_numbers_that_json_lacks_become_null(db, lease):
    plan(db, 0)
    job = claim_next(db, lease, Limits(1))
    data = {"a": [float("inf"), 1.5], "b": {"c": float("nan")}, "d": "x\x00"}
    told = [NewEvent("\x00 \udfff", "error", "metrics", data, created_at=12.5)]
    record_events(db, lease, job.id, 1, told, 0, 2**40)
    event = list_events(db, job.id, after_sequence=2)[0]
    assert (event.message, event.created_at) == ("� �", 12.5)
    assert event.data == {"a": [None, 1.5], "b": {"c": None}, "d": "x�"}
    assert event.id == f"ftevent-{job.id.partition('-')[2]}-000003"
    assert get_job(db, job.id).events_offset == 2**40
