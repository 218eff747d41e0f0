"""Many at once, by seeded draws: whatever the order, the story holds together."""

import json
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from ratchet.service.errors import (
    IdempotencyMismatchError,
    InvalidTransitionError,
    QuotaExceededError,
)
from ratchet.service.store.asking import ask
from ratchet.service.store.finishing import succeed
from ratchet.service.store.jobs import get_job, list_jobs
from ratchet.service.store.keys import create_key
from ratchet.service.store.leases import acquire
from ratchet.service.store.lineages import adopt, get_lineage, list_promotions, promote
from ratchet.service.store.records import KnownVersion, NewEvent, NewJob, NewVersion
from ratchet.service.store.running_jobs import Limits, claim_next, record_events
from ratchet.service.store.submitting import create_job
from tests.service.store.racing import race, settle
from tests.service.store.samples import FACTS
from tests.service.store.story import check_present, check_story


def at_once(*acts):
    """What each of some functions gives when all start together: its value or its error."""
    barrier = threading.Barrier(len(acts))

    def run(act):
        barrier.wait(20)
        try:
            return act()
        except (InvalidTransitionError, QuotaExceededError, IdempotencyMismatchError) as error:
            return error

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(run, acts))


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_threads_that_race_tell_one_consistent_story(db, seed):
    over = threading.Event()
    failed = []

    def watch():
        while not over.wait(0.02):
            try:
                check_present(db)
            except AssertionError as error:
                failed.append(error)

    watcher = threading.Thread(target=watch)
    watcher.start()
    claims = race(db, seed, 150)
    over.set()
    watcher.join()
    assert failed == []
    assert len(claims) == len({tuple(claim) for claim in claims})
    settle(db)
    ended = check_story(db)
    assert {job.status for job in ended} == {"succeeded", "failed", "cancelled"}


@pytest.mark.slow
def test_processes_that_race_tell_one_consistent_story(db, empty_url):
    command = [sys.executable, "-W", "error", "-m", "tests.service.store.racing", empty_url]
    running = [
        subprocess.Popen(
            [*command, str(seed), "80"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for seed in (11, 12, 13)
    ]
    outputs = [process.communicate(timeout=300) for process in running]
    assert [process.returncode for process in running] == [0, 0, 0], outputs
    claims = [tuple(json.loads(line)) for output, _ in outputs for line in output.splitlines()]
    assert len(claims) == len(set(claims)) > 10
    settle(db)
    check_story(db)


def test_a_job_is_given_to_one_of_many_that_claim_at_once(db, lease):
    for number in range(4):
        create_job(db, NewJob("plan", {"n": number}))
    claimed = at_once(*[lambda: claim_next(db, lease, Limits(3))] * 8)
    given = [job.id for job in claimed if job is not None]
    assert len(given) == len(set(given)) == 3


def test_one_lineage_is_given_to_one_update_at_a_time(db, lease):
    for number in range(4):
        create_job(db, NewJob("update", {"n": number}, "a"))
    claimed = at_once(*[lambda: claim_next(db, lease, Limits(9))] * 4)
    assert sum(job is not None for job in claimed) == 1


@pytest.mark.parametrize("round_number", range(5))
def test_a_cancellation_and_a_claim_at_once_leave_the_lineage_right(db, lease, round_number):
    job = create_job(db, NewJob("update", {}, "a")).job
    at_once(lambda: claim_next(db, lease, Limits(1)), lambda: ask(db, job.id, "cancel"))
    after = get_job(db, job.id)
    assert (after.status, after.wanted) in (("cancelled", None), ("running", "cancel"))
    check_present(db)
    if after.status == "cancelled" and after.attempt > 0:
        assert get_lineage(db, "a").active_job is None


def test_the_same_idempotency_key_at_once_makes_one_job(db, key):
    new = NewJob("update", {}, "a", key_id=key.id)
    made = at_once(*[lambda: create_job(db, new, "same")] * 6)
    assert len({created.job.id for created in made}) == 1
    assert sorted(created.is_replay for created in made) == [False] + [True] * 5
    unkeyed = at_once(*[lambda: create_job(db, NewJob("plan", {}), "same")] * 6)
    assert len({created.job.id for created in unkeyed}) == 1


def test_the_same_body_at_once_makes_one_job(db, key):
    new = NewJob("update", {}, "a", key_id=key.id)
    made = at_once(*[lambda: create_job(db, new)] * 6)
    assert len({created.job.id for created in made}) == 1


def test_a_quota_holds_against_many_at_once(db):
    key = create_key(db, "bob", "submitter", max_queued_jobs=2)[0]
    acts = [lambda n=n: create_job(db, NewJob("plan", {"n": n}, key_id=key.id)) for n in range(6)]
    refused = [made for made in at_once(*acts) if isinstance(made, QuotaExceededError)]
    assert len(refused) == 4
    assert len(list_jobs(db)) == 2


def test_promotions_at_once_are_numbered_and_chained(db):
    known = [KnownVersion(number, None, FACTS, 1.0) for number in range(1, 7)]
    adopt(db, "a", None, known, 1, None)
    at_once(*[lambda n=n: promote(db, "a", n) for n in range(2, 7)])
    decisions = list_promotions(db, "a")[::-1]
    assert [decision.sequence for decision in decisions] == [1, 2, 3, 4, 5, 6]
    assert [decision.previous for decision in decisions[1:]] == [
        decision.version for decision in decisions[:-1]
    ]


def test_a_job_that_is_ended_twice_at_once_ends_once(db, lease):
    create_job(db, NewJob("update", {}, "a"))
    job = claim_next(db, lease, Limits(1))
    version = NewVersion(1, None, FACTS, "promoted")
    ends = at_once(*[lambda: succeed(db, lease, job, {}, version)] * 5)
    assert sum(not isinstance(end, InvalidTransitionError) for end in ends) == 1
    check_story(db)


def test_events_recorded_twice_at_once_are_recorded_once(db, lease):
    create_job(db, NewJob("plan", {}))
    job = claim_next(db, lease, Limits(1))
    told = [NewEvent("one"), NewEvent("two")]
    ends = at_once(*[lambda: record_events(db, lease, job.id, 1, told, 0, 20)] * 5)
    assert sum(not isinstance(end, InvalidTransitionError) for end in ends) == 1
    assert get_job(db, job.id).num_events == 4


def test_a_lease_that_is_free_is_given_to_one_of_many(db):
    holders = at_once(*[lambda n=n: acquire(db, "x", f"holder {n}", 60.0) for n in range(6)])
    assert sum(holder is not None for holder in holders) == 1
