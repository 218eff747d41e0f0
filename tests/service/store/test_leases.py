"""Leases: one holder at a time, and one who was taken over writes nothing more."""

import threading
import time

import pytest
from sqlalchemy import text

from ratchet.service.errors import InvalidTransitionError, LeaseLostError
from ratchet.service.store.asking import ask
from ratchet.service.store.events import list_events
from ratchet.service.store.finishing import succeed
from ratchet.service.store.jobs import get_job
from ratchet.service.store.leases import acquire, check_held, get_lease, live_holder, release, renew
from ratchet.service.store.records import NewEvent, NewJob, NewVersion
from ratchet.service.store.running_jobs import (
    Limits,
    claim_next,
    end_cancelled,
    end_paused,
    fail,
    record_events,
    record_submission,
    requeue,
)
from ratchet.service.store.submitting import create_job
from tests.service.store.samples import FACTS, LOST


def expire(db, name="controller"):
    """Let a lease run out now, by the clock that decides."""
    with db.writing() as tx:
        tx.change(text("UPDATE leases SET expires_at = :then").bindparams(then=tx.now() - 0.001))


def test_a_lease_is_had_by_one_until_it_runs_out(db):
    first = acquire(db, "controller", "first", 60.0)
    assert (first.term, first.holder) == (1, "first")
    assert acquire(db, "controller", "second", 60.0) is None
    assert live_holder(db, "controller") == "first"
    expire(db)
    assert live_holder(db, "controller") is None
    second = acquire(db, "controller", "second", 60.0)
    assert (second.term, second.holder) == (2, "second")
    with pytest.raises(LeaseLostError, match="first held it in term 1"):
        renew(db, first, 60.0)
    release(db, first)
    assert get_lease(db, "controller") == second


def test_another_lease_is_not_concerned(db):
    acquire(db, "controller", "first", 60.0)
    assert acquire(db, "webhooks", "second", 60.0).term == 1
    assert get_lease(db, "nothing") is None
    assert live_holder(db, "nothing") is None


def test_renewing_moves_the_end_and_releasing_lets_the_next_in_at_once(db):
    first = acquire(db, "controller", "first", 1.0)
    longer = renew(db, first, 100.0)
    assert longer.term == 1
    assert longer.expires_at - first.expires_at == pytest.approx(99.0, abs=5.0)
    release(db, longer)
    assert acquire(db, "controller", "second", 60.0).term == 2


def test_a_holder_that_asks_again_fences_its_former_self(db):
    former = acquire(db, "controller", "first", 60.0)
    again = acquire(db, "controller", "first", 60.0)
    assert again.term == 2
    with pytest.raises(LeaseLostError):
        renew(db, former, 60.0)


def test_a_lease_that_ran_out_serves_until_it_is_taken(db, lease):
    create_job(db, NewJob("plan", {}))
    expire(db)
    assert claim_next(db, lease, Limits(1)).attempt == 1
    assert renew(db, lease, 60.0).term == lease.term


def test_the_time_that_decides_is_the_databases_own_on_postgresql(db, monkeypatch):
    acquire(db, "controller", "first", 60.0)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    taken = acquire(db, "controller", "second", 60.0)
    with db.reading() as tx:
        assert (taken is None) == tx.is_postgres


WRITES = {
    "claim_next": lambda db, lease, _job: claim_next(db, lease, Limits(9)),
    "record_events": lambda db, lease, job: record_events(
        db, lease, job.id, 1, [NewEvent("stale")], 0, 5
    ),
    "record_submission": lambda db, lease, job: record_submission(db, lease, job, "stale"),
    "requeue": lambda db, lease, job: requeue(db, lease, job, LOST, 0.0),
    "fail": lambda db, lease, job: fail(db, lease, job, LOST),
    "succeed": lambda db, lease, job: succeed(
        db, lease, job, {}, NewVersion(1, None, FACTS, "promoted")
    ),
    "end_cancelled": lambda db, lease, job: end_cancelled(db, lease, job),
    "end_paused": lambda db, lease, job: end_paused(db, lease, job),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_controller_that_was_taken_over_writes_nothing(db, lease, write):
    made = create_job(db, NewJob("update", {}, "a")).job
    create_job(db, NewJob("plan", {}))
    job = claim_next(db, lease, Limits(9))
    if write is WRITES["end_cancelled"] or write is WRITES["end_paused"]:
        ask(db, job.id, "cancel" if write is WRITES["end_cancelled"] else "pause")
    before = get_job(db, made.id), list_events(db, made.id)
    expire(db)
    taken = acquire(db, "controller", "second", 60.0)
    with pytest.raises(LeaseLostError):
        write(db, lease, job)
    assert (get_job(db, made.id), list_events(db, made.id)) == before
    write(db, taken, job)  # the same, from the one who holds it now


def test_a_write_begun_under_the_lease_ends_before_another_takes_it(db, lease):
    """The lease's row stays locked while a transaction writes under it."""
    order = []
    begun = threading.Event()

    def write():
        with db.writing() as tx:
            check_held(tx, lease)
            begun.set()
            time.sleep(0.3)
            order.append("written")

    expire(db)
    writer = threading.Thread(target=write)
    writer.start()
    begun.wait(10)
    assert acquire(db, "controller", "second", 60.0).term == 2
    order.append("taken")
    writer.join()
    assert order == ["written", "taken"]


def test_a_write_of_an_attempt_that_is_over_is_refused(db, lease):
    create_job(db, NewJob("update", {}, "a"))
    first = claim_next(db, lease, Limits(1))
    requeue(db, lease, first, LOST, 0.0)
    claim_next(db, lease, Limits(1))
    for name in ("record_events", "record_submission", "requeue", "fail", "succeed"):
        with pytest.raises(InvalidTransitionError, match="attempt 2"):
            WRITES[name](db, lease, first)
