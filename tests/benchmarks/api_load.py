"""Listing and event reading at a fixed rate: p50, p95 and errors of the job API.

`python -m tests.benchmarks.api_load` starts an API of its own over a filled SQLite database;
`--url` and `--key` aim at one that runs already, for instance while a job trains.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from ratchet.service.settings import Settings
from ratchet.service.store.database import Database
from ratchet.service.store.keys import create_key
from ratchet.service.store.leases import acquire
from ratchet.service.store.records import NewEvent, NewJob
from ratchet.service.store.running_jobs import Limits, claim_next, record_events
from ratchet.service.store.submitting import create_job
from tests.waiting import wait_for_url

NUM_JOBS, NUM_EVENTS = 200, 50
SPEC = {
    "lineage": "intents",
    "model": {"name": "minilm"},
    "tasks": [{"name": f"task-{n}", "train": f"file-{n:024x}"} for n in range(5)],
    "preset": "lora_replay_ewc",
}


def fill(db):
    """Jobs in the queue, and one that runs with many events; gives a key's secret."""
    _, secret = create_key(db, "load", "admin", requests_per_minute=1_000_000)
    for number in range(NUM_JOBS):
        create_job(db, NewJob("update", SPEC, f"intents-{number % 10}", priority=number % 3))
    lease = acquire(db, "controller", "load", 3600.0)
    job = claim_next(db, lease, Limits(max_running_jobs=1))
    told = [NewEvent(f"step {n}", type="metrics", data={"loss": n / 7}) for n in range(NUM_EVENTS)]
    record_events(db, lease, job.id, job.attempt, told, 0, 1, phase="training")
    return secret


@contextmanager
def own_api():
    """An API in a process of its own; gives its address and a key."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(home=Path(folder), api_port=18080 + os.getpid() % 1000)
        db = Database(settings.database_url)
        db.migrate()
        secret = fill(db)
        db.dispose()
        variables = {"RATCHET_HOME": folder, "RATCHET_API_PORT": str(settings.api_port)}
        with (Path(folder) / "api.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "ratchet.service.api"],
                env={**os.environ, **variables},
                stderr=log,
            )
        url = f"http://127.0.0.1:{settings.api_port}"
        try:
            wait_for_url(f"{url}/healthz", process)
            yield url, secret
        finally:
            process.terminate()
            process.wait(30)


async def load(url, secret, rate, seconds):
    """Requests at a fixed rate, whatever the answers take; gives seconds and status of each."""
    found = []
    limits = httpx.Limits(max_connections=64, max_keepalive_connections=64)
    headers = {"Authorization": f"Bearer {secret}"}
    async with httpx.AsyncClient(
        base_url=url, headers=headers, limits=limits, timeout=30
    ) as client:
        page = (await client.get("/v1/updates?status=running&limit=1")).json()["data"]
        page = page or (await client.get("/v1/updates?limit=1")).json()["data"]
        paths = ["/v1/updates?limit=20", f"/v1/updates/{page[0]['id']}/events?limit=50"]

        async def ask(path, due):
            try:
                status = (await client.get(path)).status_code
            except httpx.TransportError as error:
                status = type(error).__name__
            found.append((time.perf_counter() - due, status, path.split("?")[0][-6:]))

        begin = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = begin + number / rate
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                group.create_task(ask(paths[number % 2], due))
    return found


def report(found, rate, seconds):
    """Print what was measured."""
    times = sorted(one[0] * 1000 for one in found)
    errors = [one[1] for one in found if one[1] != 200]
    p50, p95, p99 = (times[int(share * (len(times) - 1))] for share in (0.5, 0.95, 0.99))
    print(
        f"{len(found)} requests at {rate:g}/s for {seconds:g} s: p50 {p50:.1f} ms, "
        f"p95 {p95:.1f} ms, p99 {p99:.1f} ms, longest {times[-1]:.1f} ms, errors {len(errors)}"
    )
    if errors:
        print("errors:", {status: errors.count(status) for status in set(errors)})


def main():
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url")
    parser.add_argument("--key", default=os.environ.get("RATCHET_API_KEY"))
    parser.add_argument("--rate", type=float, default=100)
    parser.add_argument("--seconds", type=float, default=30)
    given = parser.parse_args()
    if given.url:
        report(
            asyncio.run(load(given.url, given.key, given.rate, given.seconds)),
            given.rate,
            given.seconds,
        )
        return
    with own_api() as (url, secret):
        report(asyncio.run(load(url, secret, given.rate, given.seconds)), given.rate, given.seconds)


if __name__ == "__main__":
    main()
