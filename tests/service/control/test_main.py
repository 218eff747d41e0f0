import os
import signal
import subprocess
import sys

import psutil
import pytest

from ratchet.service.driver.job_folder import JobFolder
from ratchet.service.store.database import Database
from ratchet.service.store.events import list_events
from ratchet.service.store.jobs import get_job
from ratchet.service.store.leases import get_lease
from ratchet.service.store.records import NewJob
from ratchet.service.store.submitting import create_job
from tests.tiny import tiny_spec
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


def start_controller(home, **settings):
    environment = {**os.environ, "RATCHET_HOME": str(home), "RATCHET_LAUNCHER": "process"}
    with (home / "controller.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "ratchet.service.control"],
            env=environment | {f"RATCHET_{name}": value for name, value in settings.items()},
            stdout=log,
            stderr=log,
        )


def test_asked_to_stop_it_leaves_running_jobs_to_the_next_one(tiny_model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    training = {"num_epochs": 400, "batch_size": 4, "checkpoint_every_steps": 50}
    spec = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["banking"], [], training=training)
    raw = {k: v for k, v in spec.model_dump(mode="json").items() if v is not None}
    roots = f"{tmp_path / 'rows'},{tiny_model}"
    first = start_controller(home, DATA_ROOTS=roots)
    db = Database(f"sqlite:///{home / 'ratchet.db'}")
    wait_for(lambda: "acts, in term 1" in (home / "controller.log").read_text(), first)
    job_id = create_job(db, NewJob("update", raw, "tiny")).job.id
    wait_for(lambda: get_job(db, job_id).phase == "training", first)
    first.send_signal(signal.SIGTERM)
    assert first.wait(20) == 0
    driver = JobFolder.of(home, job_id).read_driver(1)
    assert psutil.pid_exists(driver.pid)
    assert get_lease(db, "controller").expires_at == 0.0
    second = start_controller(home)
    wait_for(lambda: get_job(db, job_id).has_ended, second)
    job = get_job(db, job_id)
    assert (job.status, job.attempt) == ("succeeded", 1)
    assert f"{job_id}: succeeded" in (home / "controller.log").read_text()
    ends = [e for e in list_events(db, job_id, limit=1000) if (e.data or {}).get("status")]
    assert [event.data["status"] for event in ends] == ["queued", "running", "succeeded"]
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    db.dispose()


def test_a_database_that_is_away_is_waited_for(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    url = "postgresql://nobody@127.0.0.1:1/nothing"
    controller = start_controller(home, DATABASE_URL=url)
    wait_for(lambda: "the database is away" in (home / "controller.log").read_text(), controller)
    controller.send_signal(signal.SIGTERM)
    assert controller.wait(20) == 0
