"""How many jobs and events a second the store takes, one caller after the other.

    python -m tests.benchmarks.store_speed

SQLite syncs every commit to the disk; PostgreSQL runs with fsync and synchronous_commit on.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ratchet.service.store.database import Database
from ratchet.service.store.events import list_events
from ratchet.service.store.finishing import succeed
from ratchet.service.store.jobs import list_jobs
from ratchet.service.store.leases import acquire
from ratchet.service.store.records import NewEvent, NewJob
from ratchet.service.store.running_jobs import Limits, claim_next, record_events
from ratchet.service.store.submitting import create_job
from tests.postgres import postgres_server

NUM_JOBS = 200
EVENTS_A_CALL = 10
SPEC = {"lineage": "a", "tasks": [{"name": f"task {n}", "train": "x.jsonl"} for n in range(10)]}


def rate(act: Callable[[int], object], num: int = NUM_JOBS) -> float:
    """Calls a second."""
    begin = time.perf_counter()
    for number in range(num):
        act(number)
    return num / (time.perf_counter() - begin)


def measure(name: str, url: str) -> None:
    """Print one line for a database."""
    db = Database(url)
    db.migrate()
    lease = acquire(db, "controller", "benchmark", 600.0)
    assert lease is not None

    def create(number: int) -> None:
        create_job(db, NewJob("plan", {**SPEC, "n": number}, "a"), f"key {number}")

    def work(_number: int) -> None:
        job = claim_next(db, lease, Limits(2))
        assert job is not None
        told = [NewEvent("step", type="metrics", data={"loss": 0.5})] * EVENTS_A_CALL
        record_events(db, lease, job.id, job.attempt, told, 0, 1000, "training")
        succeed(db, lease, job, {"ok": True})

    rates = {"create_job": rate(create), "claim+record+succeed": rate(work)}
    some = list_jobs(db, limit=1)[0]
    rates["list_events"] = rate(lambda _number: list_events(db, some.id), 1000)
    rates["list_jobs"] = rate(lambda _number: list_jobs(db, limit=20), 500)
    db.dispose()
    print(f"{name:12}" + "  ".join(f"{what} {value:7.0f}/s" for what, value in rates.items()))


def main() -> None:
    """Measure both databases."""
    with tempfile.TemporaryDirectory() as folder:
        measure("sqlite", f"sqlite:///{Path(folder) / 'ratchet.db'}")
    with postgres_server(durable=True) as server:
        measure("postgresql", server.new_database())


if __name__ == "__main__":
    main()
