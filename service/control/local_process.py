"""A driver on this machine: whether it lives, and its end, first with patience, then without."""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import Literal

import psutil

from ratchet.service.control.launcher import Attempt
from ratchet.service.driver.job_folder import DriverProcess

GRACE_SECONDS = 5.0
_SAME = 0.05
"""Start times of processes are known to a hundredth of a second."""

Sight = Literal["alive", "dead", "elsewhere"]


def sight_of(driver: DriverProcess) -> Sight:
    """Whether a driver lives, where it is on this machine."""
    if driver.host != socket.gethostname():
        return "elsewhere"
    return "dead" if _process(driver) is None else "alive"


def end_local_driver(attempt: Attempt) -> None:
    """Ask a driver on this machine to end; the second time, after a grace, it is killed.

    When it was asked first is noted in the job's folder, so that another controller goes on.
    """
    driver = attempt.folder.read_driver(attempt.number)
    process = None if driver is None else _process(driver)
    if driver is None or process is None or driver.host != socket.gethostname():
        return
    note = attempt.folder.path / f"stop-{attempt.number}"
    if not note.exists():
        _signal([process], signal.SIGTERM)
        note.touch()
    elif time.time() - note.stat().st_mtime > GRACE_SECONDS:
        try:
            family = [*process.children(recursive=True), process]
        except psutil.NoSuchProcess:
            return
        _signal(family, signal.SIGKILL)


def _process(driver: DriverProcess) -> psutil.Process | None:
    """The process that a driver is, never one that has its number since."""
    try:
        process = psutil.Process(driver.pid)
        is_it = abs(process.create_time() - driver.create_time) < _SAME
        return process if is_it and process.status() != psutil.STATUS_ZOMBIE else None
    except psutil.NoSuchProcess:
        return None


def _signal(processes: list[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        if process.pid == os.getpid():
            continue
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue
