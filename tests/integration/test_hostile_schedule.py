"""Jobs over lineages while everything is killed in turn, at random moments.

RATCHET_HOSTILE_JOBS is the number of jobs (over five lineages at most), RATCHET_HOSTILE_SEED the
seed of what is killed when.
"""

import collections
import json
import os
import random
import shutil
import signal
import sys
import time

import httpx
import pytest

from ratchet.pipelines.registry.aliases import read_aliases
from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.store.database import Database
from ratchet.service.store.events import list_events
from ratchet.service.store.jobs import get_job
from ratchet.service.store.keys import create_key
from ratchet.service.store.lineages import get_lineage, list_promotions, list_versions, unmirrored
from tests.integration.service_processes import ServiceProcesses, send, title
from tests.tiny import texts_of

pytestmark = pytest.mark.slow
NUM_JOBS = int(os.environ.get("RATCHET_HOSTILE_JOBS", "6"))
SEED = int(os.environ.get("RATCHET_HOSTILE_SEED", "5"))
MAX_LINEAGES = 5
VICTIMS = ("controller", "worker", "driver", "api", "head")
KILLS_AHEAD = len(VICTIMS)
"""Kills before the first job has ended; each that ends allows one more."""
SECONDS_PER_JOB = 60
SETTINGS = {
    "RATCHET_MAX_RUNNING_JOBS": "3",
    "RATCHET_MAX_LOST_ATTEMPTS": "100",
    "RATCHET_LEASE_SECONDS": "3",
    "RATCHET_POLL_SECONDS": "0.2",
    "RATCHET_REQUESTS_PER_MINUTE": "100000",
}


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request, tmp_path):
    """A service that runs, over each kind of database; nothing of it is left afterwards."""
    url = f"sqlite:///{tmp_path / 'ratchet.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    settings = SETTINGS | {"RATCHET_DATA_ROOTS": str(tmp_path / "data")}
    found = ServiceProcesses(tmp_path / "home", url, settings)
    db = Database(url)
    db.migrate()
    try:
        for name in ("head", "controller", "api"):
            found.start(name)
        yield found, db
    finally:
        left = found.stop()
        db.dispose()
    assert left == [], "these did not end with the service"


def rows_of(folder, name, seed):
    """The splits of a task of two classes of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {"name": name}
    for split, count in (("train", 16), ("validation", 6), ("test", 6)):
        lines = []
        for label, words in ((f"{name}-a", "balance"), (f"{name}-b", "weather")):
            texts = texts_of(words, count, f"{name} {split} {seed}")
            lines += [json.dumps({"text": f"{text} {name}", "label": label}) for text in texts]
        path = folder / f"{name}.{split}.jsonl"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        paths[split] = str(path)
    return paths


def spec_of(place, model, data):
    """The spec of one job: some with workers, some that the gate will refuse."""
    lineage = f"lineage-{place % min(MAX_LINEAGES, max(1, NUM_JOBS // 3))}"
    return {
        "lineage": lineage,
        "model": {"name": str(model)},
        "tasks": [rows_of(data, f"task{place}", SEED)],
        "training": {
            "num_epochs": 6,
            "learning_rate": 3e-3,
            "batch_size": 8,
            "max_length": 24,
            "precision": "fp32",
            "checkpoint_every_steps": 3,
        },
        "scaling": {"num_workers": 1 if place % 5 == 1 else 0, "cpus_per_worker": 0.5},
        "gate": {"max_forgetting": 0.0 if place % 7 == 6 else 1.0, "max_served_loss": 1.0},
    }


class Killer:
    """Kills one part after another, at random moments, and starts again what a supervisor would.

    How long it waits is measured in starts of Ray's head on this machine, as busy as it is: a
    machine on which no job ends between two kills would test nothing but patience.
    """

    def __init__(self, service, draw):
        self.service, self.draw = service, draw
        self.pace = service.head_seconds
        self.turn = 0
        self.looked = 0.0
        self.owed = []
        self.log = []
        self.started = time.monotonic()
        self.due = self.started + self.pace * draw.uniform(0.3, 1)

    def look(self, num_ended):
        """Kill what it is time to kill; a driver or a worker as soon as there is one."""
        now = time.monotonic()
        for name in self.service.revive():  # Ray's head gives up by itself on a very busy machine
            self.log.append((round(now - self.started, 1), name, "ended by itself"))
        if now >= self.due and self.turn < KILLS_AHEAD + num_ended:
            self.owed.append(VICTIMS[self.turn % len(VICTIMS)])
            self.turn += 1
            self.due = now + self.pace * self.draw.uniform(0.2, 1.2)
        if not self.owed or now < self.looked + 0.5:
            return
        self.looked = now
        for name in list(self.owed):
            killed = self._kill(name)
            if killed is not None:
                self.owed.remove(name)
                self.log.append((round(now - self.started, 1), name, killed))

    def _kill(self, name):
        if name in ("controller", "api", "head"):
            pid = self.service.running[name].pid
            self.service.kill(name)
            self.service.start(name)
            return pid
        found = self.service.drivers() if name == "driver" else self.service.workers()
        if not found:
            return None
        victim = self.draw.choice(found)
        send(victim, signal.SIGKILL)
        return victim.pid


def submit(service, secret, place, spec):
    """Submit a job as a client does that tries again; the same key never makes two."""
    headers = {"authorization": f"Bearer {secret}", "idempotency-key": f"job-{place}"}
    body = {"spec": spec, "metadata": {"place": str(place)}}
    for _ in range(200):
        try:
            answer = httpx.post(
                f"{service.url}/v1/updates", json=body, headers=headers, timeout=10, trust_env=False
            )
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        if answer.status_code < 500 and answer.status_code != 409:
            assert answer.status_code == 202, answer.text
            return answer.json()["id"]
        time.sleep(0.1)
    raise AssertionError("the API never took it")


def cancel(service, secret, job_id):
    """Ask for a cancellation; an API that is being killed is asked again."""
    headers = {"authorization": f"Bearer {secret}"}
    for _ in range(100):
        try:
            httpx.post(
                f"{service.url}/v1/updates/{job_id}/cancel",
                headers=headers,
                timeout=10,
                trust_env=False,
            )
        except httpx.HTTPError:
            time.sleep(0.1)
            continue
        return


def test_every_job_ends_exactly_once_whatever_is_killed(service, tiny_model, tmp_path, capsys):
    service, db = service
    draw = random.Random(SEED)
    secret = create_key(db, "hostile", "admin")[1]
    killer, jobs, asked = Killer(service, draw), [], set()
    until = time.monotonic() + 180 + SECONDS_PER_JOB * NUM_JOBS
    model = tmp_path / "data" / "model"
    model.parent.mkdir(parents=True)
    shutil.copytree(tiny_model, model)
    while True:
        assert time.monotonic() < until, _story(db, jobs, killer)
        if len(jobs) < NUM_JOBS:
            place = len(jobs)
            jobs.append(submit(service, secret, place, spec_of(place, model, tmp_path / "data")))
        states = [get_job(db, job_id) for job_id in jobs]
        killer.look(sum(job.has_ended for job in states))
        for job in states[10::11]:
            if job.status == "running" and job.id not in asked and draw.random() < 0.05:
                asked.add(job.id)
                cancel(service, secret, job.id)
        if len(jobs) == NUM_JOBS and all(job.has_ended for job in states):
            break
        time.sleep(0.1)
    seconds = time.monotonic() - killer.started
    _settle(db, service)
    with capsys.disabled():
        sys.stdout.write(_summary(db, jobs, killer, seconds) + "\n")
    for job_id in jobs:
        check_story(db, job_id, asked)
    for lineage in sorted({get_job(db, job_id).lineage for job_id in jobs}):
        check_lineage(db, service, lineage)
    assert [title(own) for own in (*service.drivers(), *service.workers())] == []


def _settle(db, service):
    """Wait until the aliases follow, and what ended has gone."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        if not unmirrored(db) and not service.drivers() and not service.workers():
            return
        time.sleep(0.2)


def check_story(db, job_id, asked):
    """A job's events: numbered without a gap, attempts that rise, one end, and that at the end."""
    job = get_job(db, job_id)
    assert job.status == "succeeded" or (job.status == "cancelled" and job_id in asked), job
    events = list_events(db, job_id, limit=100_000)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    attempts = [event.data["attempt"] for event in events if "attempt" in (event.data or {})]
    assert attempts == sorted(attempts)
    assert set(attempts) == set(range(1, job.attempt + 1))
    ends = [
        event.sequence
        for event in events
        if (event.data or {}).get("status") in ("succeeded", "failed", "cancelled")
    ]
    assert ends == [len(events)]
    claims = [own.data for own in events if {"status", "attempt", "parent"} <= set(own.data or ())]
    began = [claim["attempt"] for claim in claims if claim["status"] == "running"]
    assert began == list(range(1, job.attempt + 1))


def check_lineage(db, service, name):
    """A lineage: a chain without gap or fork, each version decided about once, aliases the same."""
    promotions = sorted(list_promotions(db, name, limit=10_000), key=lambda own: own.sequence)
    versions = {own.number: own for own in list_versions(db, name, limit=10_000)}
    assert [own.sequence for own in promotions] == list(range(1, len(promotions) + 1))
    decided = [own.version for own in promotions]
    assert len(set(decided)) == len(decided)
    assert set(decided) == set(versions)
    by_job = collections.Counter(own.job_id for own in promotions)
    assert set(by_job.values()) <= {1}
    champion = None
    for own in promotions:
        assert own.previous == champion
        assert versions[own.version].parent == champion
        assert versions[own.version].job_id == own.job_id
        assert get_job(db, own.job_id).result["version"] == own.version
        champion = own.version if own.kind == "promoted" else champion
    lineage = get_lineage(db, name)
    assert (lineage.champion, lineage.active_job) == (champion, None)
    registry = Registry(service.home)
    assert registry.versions(name) == sorted(versions)
    for number, version in versions.items():
        assert read_manifest(registry.path(name, number)).parent == version.parent
    aliases = read_aliases(registry.folder / name)
    assert (aliases.champion, aliases.challenger) == (lineage.champion, lineage.challenger)
    assert unmirrored(db) == []


def _summary(db, jobs, killer, seconds):
    found = [get_job(db, job_id) for job_id in jobs]
    kills = collections.Counter(name for _, name, pid in killer.log if isinstance(pid, int))
    lines = [f"\nhostile schedule, seed {SEED}, {db}: {len(jobs)} jobs in {seconds:.0f} s"]
    lines += [f"  {name} ({pid}) after {at} s" for at, name, pid in killer.log]
    lines.append(f"  kills: {dict(kills)}")
    lines.append(f"  ended: {dict(collections.Counter(job.status for job in found))}")
    lines.append(
        f"  attempts: {dict(sorted(collections.Counter(j.attempt for j in found).items()))}"
    )
    return "\n".join(lines)


def _story(db, jobs, killer):
    """What to look at when it takes too long."""
    lines = [_summary(db, jobs, killer, 0)]
    for job_id in jobs:
        job = get_job(db, job_id)
        if not job.has_ended:
            said = [event.message for event in list_events(db, job_id, limit=1000)][-6:]
            lines.append(f"{job_id} {job.status} {job.phase} {job.attempt}: {said}")
    return "\n".join(lines)
