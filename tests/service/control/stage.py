"""A controller with drivers that a test plays itself, by writing what they would write."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

from ratchet.pipelines.errors import Problem
from ratchet.pipelines.evaluation.instruments import Findings
from ratchet.pipelines.evaluation.verdict import Verdict
from ratchet.pipelines.registry.manifest import Manifest, write_manifest
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.update.kept_result import write_result
from ratchet.pipelines.update.result import UpdateResult
from ratchet.service.control.controller import Controller
from ratchet.service.control.launcher import LauncherError
from ratchet.service.control.mirror import Mirror, MlflowMirror
from ratchet.service.driver.job_folder import DriverProcess, Failure, JobFolder
from ratchet.service.driver.journal import Journal
from ratchet.service.store.events import list_events
from ratchet.service.store.jobs import get_job
from ratchet.service.store.records import NewJob
from ratchet.service.store.submitting import create_job


class PlayedDrivers:
    """A launcher whose drivers do nothing: the test does it."""

    def __init__(self):
        self.submitted, self.stopped = [], []
        self.standings = {}
        self.is_away = False

    def submit(self, attempt):
        if self.is_away:
            raise LauncherError("nobody answers")
        self.submitted.append(attempt.submission)
        self.standings[attempt.submission] = "running"

    def look(self, attempt):
        if self.is_away:
            return "unknown"
        return self.standings.get(attempt.submission, "gone")

    def stop(self, attempt):
        self.stopped.append(attempt.submission)
        self.standings[attempt.submission] = "ended"


class Stage:
    """A home, a database, a controller, and drivers played by hand."""

    def __init__(self, db, settings):
        self.db, self.settings = db, settings
        self.drivers = PlayedDrivers()
        self.registry = Registry(settings.home)
        self.controller = self.new_controller()
        self._sleepers = []

    def new_controller(self, launcher=None):
        registry = Registry(self.settings.home)
        mirror = Mirror(self.db, registry, MlflowMirror(registry))
        own = self.drivers if launcher is None else launcher
        return Controller(self.db, self.settings, own, registry, mirror)

    def turn(self, times=1):
        for _ in range(times):
            assert self.controller.turn()

    def ask(self, lineage="tiny", kind="update", spec=None, **values):
        raw = {"lineage": lineage, "model": {"name": "m"}} if spec is None else spec
        new = NewJob(kind, raw, lineage if kind == "update" else None, **values)
        return create_job(self.db, new, dedupe_seconds=0).job.id

    def job(self, job_id):
        return get_job(self.db, job_id)

    def folder(self, job_id):
        return JobFolder.of(self.settings.home, job_id)

    def messages(self, job_id):
        return [event.message for event in list_events(self.db, job_id, limit=1000)]

    def journal(self, job_id):
        return Journal(self.folder(job_id).events, self.job(job_id).attempt)

    def begin(self, job_id):
        """Play the start of a driver: a process that sleeps stands for it."""
        sleeper = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        self._sleepers.append(sleeper)
        created = psutil.Process(sleeper.pid).create_time()
        driver = DriverProcess(sleeper.pid, created, socket.gethostname())
        self.folder(job_id).write_driver(self.job(job_id).attempt, driver)
        self.folder(job_id).heartbeat.touch()
        return sleeper

    def kill(self, sleeper):
        sleeper.kill()
        sleeper.wait()

    def write_version(self, job_id, promoted=True, number=None):
        """Play the end of an update: its version, and the result that names it."""
        job = self.job(job_id)
        number = number or self.registry.next_number(job.lineage)
        folder = self.registry.path(job.lineage, number)
        folder.mkdir(parents=True, exist_ok=True)
        write_manifest(folder, bare_manifest(job.lineage, number, job.parent))
        reasons = [] if promoted else ["banking fell from 0.9 to 0.2"]
        return {
            "lineage": job.lineage,
            "version": number,
            "promoted": promoted,
            "gate": {"promoted": promoted, "reasons": reasons},
            "metrics": {"average_accuracy": 0.5},
            "run": "a" * 32,
        }

    def keep_result(self, job_id):
        """Play the end of an update whose driver is stopped before it can say what it gave."""
        found = self.write_version(job_id)
        result = UpdateResult(
            lineage=found["lineage"],
            version=found["version"],
            promoted=True,
            tasks=("banking",),
            accuracy_matrix=[[0.5]],
            metrics=found["metrics"],
            gate=Verdict(True, (), (), "Held.", 0.95),
            costs={},
            instruments=Findings(),
            flip_rates=(None,),
            search={},
            precision="fp32",
            warnings=(),
            seconds={"total": 1.0},
            report="report.html",
            run=found["run"],
        )
        run = self.settings.home / "runs" / found["lineage"] / f"{job_id}-from-base"
        run.mkdir(parents=True)
        write_result(run, result)

    def give(self, job_id, **options):
        result = self.write_version(job_id, **options)
        self.folder(job_id).write_result(result)
        return result

    def refuse(self, job_id, kind, retryable=False):
        failure = Failure(kind, f"{kind} is wrong", (Problem("x", "odd"),), retryable)
        self.folder(job_id).write_failure(self.job(job_id).attempt, failure)

    def wait_out(self, job_id):
        """Let the pause before a retry pass."""
        pause = self.job(job_id).not_before - time.time()
        if pause > 0:
            time.sleep(pause + 0.01)

    def close(self):
        for sleeper in self._sleepers:
            if sleeper.poll() is None:
                self.kill(sleeper)


def bare_manifest(lineage, number, parent):
    """The manifest of a version without files."""
    return Manifest(
        lineage=lineage,
        version=number,
        parent=parent,
        created=time.time(),
        base_model={"name": "m", "kind": "classifier", "sha256": "0" * 64},
        scenario="class_incremental",
        methods=[],
        labels=["a", "b"],
        tasks=[{"id": 0, "name": "banking", "class_ids": [0, 1], "stage": 0}],
        metrics={"average_accuracy": 0.5},
        routing={},
        strengths={},
        libraries={},
    )


def write_bare_versions(stage, lineage, count):
    """Versions of a lineage, each grown from the one before, as `ratchet run` leaves them."""
    for number in range(1, count + 1):
        folder = stage.registry.path(lineage, number)
        folder.mkdir(parents=True)
        write_manifest(folder, bare_manifest(lineage, number, number - 1 or None))


def aliases_of(stage, lineage="tiny"):
    """Champion and challenger as the router sees them."""
    path = stage.registry.folder / lineage / "aliases.json"
    content = json.loads(path.read_text())
    return content["champion"], content["challenger"]


def age(path: Path, seconds):
    """Make a file as old as this."""
    past = time.time() - seconds
    os.utime(path, (past, past))
