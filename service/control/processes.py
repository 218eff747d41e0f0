"""Drivers as plain processes of this machine, which outlive the controller that started them."""

from __future__ import annotations

import os
import socket
import subprocess

import psutil

from ratchet.service.control.launcher import Attempt, LauncherError, Standing, driver_command
from ratchet.service.control.local_process import end_local_driver, sight_of
from ratchet.service.driver.job_folder import DriverProcess

SECRETS = frozenset({"RATCHET_DATABASE_URL"})
"""What a driver has no business with."""


class Processes:
    """A launcher for one machine without a Ray head."""

    def __init__(self) -> None:
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, attempt: Attempt) -> None:
        """Start an attempt's driver in a session of its own.

        Raises:
            LauncherError: The machine takes no more processes.
        """
        if attempt.folder.read_driver(attempt.number) is not None:
            return
        try:
            child = subprocess.Popen(
                driver_command(attempt),
                start_new_session=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={name: own for name, own in os.environ.items() if name not in SECRETS},
            )
            created = psutil.Process(child.pid).create_time()
        except (OSError, psutil.Error) as error:
            raise LauncherError(f"cannot start {attempt.submission}: {error}") from error
        driver = DriverProcess(child.pid, created, socket.gethostname())
        attempt.folder.write_driver(attempt.number, driver)
        self._children[attempt.submission] = child

    def look(self, attempt: Attempt) -> Standing:
        """What the process table says of an attempt, and the kernel of a child of this process."""
        driver = attempt.folder.read_driver(attempt.number)
        sight = None if driver is None else sight_of(driver)
        self._reap()  # after the look: what was seen to have ended is let go of at once
        if sight is None:
            return "gone"
        if attempt.submission in self._children:  # killed, its threads may outlive its main one
            return "running"
        if sight == "elsewhere":
            return "unknown"
        return "running" if sight == "alive" else "ended"

    def stop(self, attempt: Attempt) -> None:
        """Ask an attempt's driver to end, then kill it."""
        end_local_driver(attempt)

    def _reap(self) -> None:
        """Let go of children that have ended."""
        ended = [name for name, child in self._children.items() if child.poll() is not None]
        for name in ended:
            del self._children[name]
