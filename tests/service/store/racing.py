"""Controllers and clients that do at random what they may, to be run many at once.

`python -m tests.service.store.racing URL SEED STEPS` does it in a process of its own and prints the
claims that it was given, one JSON list a line.
"""

import json
import random
import sys
import threading

from sqlalchemy import text

from ratchet.service.errors import (
    IdempotencyMismatchError,
    InvalidTransitionError,
    LeaseLostError,
    LineageNotFoundError,
    StaleChampionError,
    VersionNotFoundError,
)
from ratchet.service.store.asking import ask
from ratchet.service.store.database import Database
from ratchet.service.store.finishing import succeed
from ratchet.service.store.jobs import list_jobs
from ratchet.service.store.leases import acquire, renew
from ratchet.service.store.lineages import get_lineage, list_versions, promote, rollback
from ratchet.service.store.records import NewEvent, NewJob, NewVersion
from ratchet.service.store.running_jobs import (
    Limits,
    claim_next,
    end_cancelled,
    end_paused,
    fail,
    record_events,
    requeue,
    running_jobs,
)
from ratchet.service.store.submitting import create_job
from tests.service.store.samples import FACTS, LOST

LINEAGES = ("a", "b", "c")
LIMITS = Limits(max_running_jobs=3)
REFUSALS = (
    IdempotencyMismatchError,
    InvalidTransitionError,
    LeaseLostError,
    LineageNotFoundError,
    StaleChampionError,
    VersionNotFoundError,
)


def new_version(chance, job):
    """A version with a number that nobody else has."""
    decision = chance.choice(["promoted", "promoted", "refused"])
    return NewVersion(chance.randrange(1, 2**31 - 1), job.parent, FACTS, decision)


def act_on(db, chance, lease, job):
    """One thing that a controller may do with a job that runs."""
    if job.wanted == "cancel":
        end_cancelled(db, lease, job)
    elif job.wanted == "pause":
        end_paused(db, lease, job)
    elif chance.random() < 0.35:
        told = [NewEvent(f"at {job.events_offset}") for _ in range(chance.randrange(4))]
        offset = job.events_offset
        record_events(db, lease, job.id, job.attempt, told, offset, offset + len(told), "training")
    elif chance.random() < 0.3:
        requeue(db, lease, job, LOST, 0.0)
    elif chance.random() < 0.15:
        fail(db, lease, job, LOST)
    else:
        succeed(db, lease, job, {}, new_version(chance, job) if job.kind == "update" else None)


def control(db, seed, num_steps, claims):
    """Be a controller; now and then another one's lease runs out in the middle of its work."""
    chance = random.Random(seed)
    name = f"controller {seed}"
    lease = None
    for _ in range(num_steps):
        try:
            if lease is None:
                if chance.random() < 0.2:
                    with db.writing() as tx:
                        tx.change(text("UPDATE leases SET expires_at = 0"))
                lease = acquire(db, "controller", name, 60.0)
                continue
            if chance.random() < 0.4:
                job = claim_next(db, lease, LIMITS)
                if job is not None:
                    claims.append([job.id, job.attempt])
            elif chance.random() < 0.1:
                lease = renew(db, lease, 60.0)
            else:
                seen = running_jobs(db)
                if seen:
                    act_on(db, chance, lease, chance.choice(seen))
        except LeaseLostError:
            lease = None
        except InvalidTransitionError:
            continue


def demand(db, seed, num_steps):
    """Be a client."""
    chance = random.Random(seed)
    for step in range(num_steps):
        try:
            _demand(db, chance, f"{seed}-{step}")
        except REFUSALS:
            continue


def _demand(db, chance, name):
    draw, lineage = chance.random(), chance.choice(LINEAGES)
    if draw < 0.4:
        kind = chance.choice(["update", "update", "plan"])
        number = chance.randrange(60)
        new = NewJob(kind, {"number": number}, lineage, priority=number % 3)
        create_job(db, new, idempotency_key=f"{number}-{kind}-{name.partition('-')[0]}")
    elif draw < 0.75:
        open_jobs = [job for job in list_jobs(db, limit=30) if not job.has_ended]
        if open_jobs:
            request = chance.choice(["cancel", "pause", "resume", "resume"])
            ask(db, chance.choice(open_jobs).id, request)
    elif draw < 0.9:
        numbers = [version.number for version in list_versions(db, lineage, limit=5)]
        seen = get_lineage(db, lineage).champion
        promote(db, lineage, chance.choice(numbers) if numbers else None, expected_champion=seen)
    else:
        rollback(db, lineage)


def settle(db):
    """Bring every job to its end."""
    with db.writing() as tx:
        tx.change(text("UPDATE leases SET expires_at = 0"))
    lease = acquire(db, "controller", "the last one", 60.0)
    chance = random.Random(0)
    for _ in range(2000):
        for job in list_jobs(db, status="paused", limit=1000):
            ask(db, job.id, "resume")
        claim_next(db, lease, LIMITS)
        running = running_jobs(db)
        if not running and not list_jobs(db, status="queued", limit=1):
            return
        for job in running:
            act_on(db, chance, lease, job)
    raise AssertionError("jobs are left that nobody can end")


def race(db, seed, num_steps):
    """Two controllers and three clients in threads; the claims that were given."""
    claims, errors = [], []

    def guarded(act, *arguments):
        try:
            act(*arguments)
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            errors.append(error)

    actors = [(control, db, seed * 10 + n, num_steps, claims) for n in range(2)]
    actors += [(demand, db, seed * 10 + n, num_steps) for n in range(2, 5)]
    threads = [threading.Thread(target=guarded, args=actor) for actor in actors]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return claims


if __name__ == "__main__":
    url, seed, num_steps = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    for claim in race(Database(url), seed, num_steps):
        print(json.dumps(claim))  # noqa: T201
