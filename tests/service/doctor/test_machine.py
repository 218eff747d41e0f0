import os
import shutil
import socket
from collections import namedtuple
from importlib import metadata

import pytest

from ratchet.service.doctor import machine
from ratchet.service.doctor.machine import GIB, examine

Usage = namedtuple("Usage", "total used free")


def findings(home, uri=None):
    found = list(examine(home, uri or f"sqlite:///{home / 'mlflow.db'}"))
    return {finding.name: finding for finding in found}


def test_everything_is_looked_at_and_every_complaint_says_what_to_do(tmp_path):
    found = findings(tmp_path)
    assert {"python", "processor", "threads", "memory", "disk", "home", "mlflow", "ray"} <= {*found}
    assert [own for own in found.values() if own.status != "ok" and not own.advice] == []
    assert found["python"].status == found["ray"].status == "ok"


def test_a_library_outside_its_bounds_is_named_with_the_command_that_mends_it(
    tmp_path, monkeypatch
):
    def version(name):
        if name == "peft":
            return "0.1"
        if name == "optuna":
            raise metadata.PackageNotFoundError(name)
        return metadata.version(name)

    monkeypatch.setattr(machine, "version", version)
    found = findings(tmp_path)
    assert (found["peft"].status, found["peft"].found) == ("warn", "0.1 is installed")
    assert found["peft"].advice.startswith("pip install 'peft")
    assert (found["optuna"].status, found["optuna"].found) == ("fail", "not installed")
    assert "libraries" not in found


@pytest.mark.parametrize(
    ("policy", "load", "status"),
    [("", 0.0, "warn"), ("passive", 0.0, "ok"), ("passive", 1e6, "warn")],
)
def test_spinning_threads_and_a_busy_machine_are_said(tmp_path, monkeypatch, policy, load, status):
    monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    monkeypatch.setattr(os, "getloadavg", lambda: (load, load, load))
    assert findings(tmp_path)["threads"].status == status


def test_little_memory_and_a_little_disk_are_said(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100 * GIB, 99 * GIB, GIB))
    monkeypatch.setattr(machine, "_available_bytes", lambda: 2.0 * GIB)
    found = findings(tmp_path)
    assert (found["disk"].status, found["memory"].status) == ("warn", "warn")
    assert "1.0 GiB free" in found["disk"].found
    assert "2.0 GiB available" in found["memory"].found


def test_a_home_that_cannot_be_written_keeps_ratchet_from_running(tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    found = findings(place / "home")["home"]
    assert (found.status, "--home" in found.advice) == ("fail", True)


def test_a_tracking_server_that_is_away_is_a_warning_and_not_a_failure(tmp_path):
    with socket.socket() as taken:  # bound and not listening: who asks is refused at once
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        found = findings(tmp_path, f"http://127.0.0.1:{port}")["mlflow"]
    assert (found.status, "ratchet track --send" in found.advice) == ("warn", True)


def test_a_port_in_use_is_named_with_who_wants_it(tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        monkeypatch.setattr(machine, "PORTS", {port: "ratchet serve"})
        found = findings(tmp_path)[f"port {port}"]
        assert (found.status, found.found) == ("warn", "in use, and ratchet serve wants it")
    assert findings(tmp_path)[f"port {port}"].status == "ok"
