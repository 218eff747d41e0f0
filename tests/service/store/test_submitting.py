"""Covers, beside `submitting`: `earlier_requests`.

What the same request leads to, and what is refused.
"""

from dataclasses import replace

import pytest

from ratchet.service.errors import (
    IdempotencyMismatchError,
    InvalidRequestError,
    KeyNotFoundError,
)
from ratchet.service.store.asking import ask
from ratchet.service.store.earlier_requests import find_earlier
from ratchet.service.store.jobs import list_jobs
from ratchet.service.store.keys import create_key
from ratchet.service.store.records import NewJob
from ratchet.service.store.running_jobs import (
    Limits,
    claim_next,
)
from ratchet.service.store.submitting import create_job


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
