"""Covers, beside `processes`: `launcher`, `local_process`."""

import os
import time

import psutil
import pytest

from ratchet.service.control.launcher import Attempt
from ratchet.service.control.local_process import GRACE_SECONDS
from ratchet.service.control.processes import Processes
from ratchet.service.driver.job_folder import DriverProcess
from tests.service.control.stage import age
from tests.service.driver.processes import tiny_assignment
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
LONG = {"num_epochs": 4000, "batch_size": 4, "checkpoint_every_steps": 5}


def has_begun(folder):
    return folder.events.exists() and b"has started" in folder.events.read_bytes()


def test_a_process_is_started_once_seen_by_another_launcher_and_ends_when_asked(
    tiny_model, tmp_path, monkeypatch
):
    monkeypatch.setenv("RATCHET_DATABASE_URL", "postgresql://ratchet:secret@db/ratchet")
    _, folder = tiny_assignment(tiny_model, tmp_path, training=LONG)
    attempt, launcher = Attempt("ftjob-1", 1, folder), Processes()
    assert launcher.look(attempt) == "gone"
    launcher.submit(attempt)
    launcher.submit(attempt)
    driver = folder.read_driver(1)
    wait_for(lambda: has_begun(folder))
    assert folder.read_driver(1) == driver  # what the driver wrote is what the launcher knew
    assert os.getsid(driver.pid) == driver.pid
    assert "RATCHET_DATABASE_URL" not in psutil.Process(driver.pid).environ()
    assert folder.path.stat().st_mode & 0o077 == 0
    other = Processes()
    assert other.look(attempt) == "running"
    other.stop(attempt)
    wait_for(lambda: launcher.look(attempt) == "ended")
    assert not psutil.pid_exists(driver.pid)


def test_one_that_does_not_listen_is_killed_after_a_grace(tiny_model, tmp_path):
    _, folder = tiny_assignment(tiny_model, tmp_path, training=LONG)
    attempt, launcher = Attempt("ftjob-1", 1, folder), Processes()
    launcher.submit(attempt)
    wait_for(lambda: has_begun(folder))
    driver = psutil.Process(folder.read_driver(1).pid)
    driver.suspend()
    launcher.stop(attempt)
    time.sleep(0.2)
    launcher.stop(attempt)
    assert launcher.look(attempt) == "running"
    age(folder.path / "stop-1", GRACE_SECONDS + 1)
    launcher.stop(attempt)
    wait_for(lambda: launcher.look(attempt) == "ended")


def test_another_process_with_the_number_of_a_driver_is_not_touched(tiny_model, tmp_path):
    _, folder = tiny_assignment(tiny_model, tmp_path)
    own = psutil.Process()
    folder.write_driver(1, DriverProcess(own.pid, own.create_time() - 5, os.uname().nodename))
    attempt, launcher = Attempt("ftjob-1", 1, folder), Processes()
    assert launcher.look(attempt) == "ended"
    launcher.stop(attempt)
    assert not (folder.path / "stop-1").exists()
