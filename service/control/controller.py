"""The controller's loop: hold the lease, look at every job, claim what can run, mirror."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time

from ratchet.pipelines.errors import BusyError, RatchetError
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.control.adoption import adopt_home
from ratchet.service.control.cleanup import clear_ended
from ratchet.service.control.job_steps import JobSteps
from ratchet.service.control.launcher import Launcher
from ratchet.service.control.log_once import LogOnce
from ratchet.service.control.mirror import Mirror
from ratchet.service.errors import DatabaseUnavailableError, InvalidTransitionError, LeaseLostError
from ratchet.service.settings import Settings
from ratchet.service.store.database import Database
from ratchet.service.store.leases import acquire, release, renew
from ratchet.service.store.records import Job, Lease
from ratchet.service.store.running_jobs import Limits, claim_next, running_jobs

LEASE_NAME = "controller"
AWAY_SECONDS = 2.0
CLEAR_SECONDS = 600.0
ADOPT_SECONDS = 5.0
"""Pause before the home is looked at again whose store was away."""

_log = logging.getLogger(__name__)


class Controller:
    """Gives jobs to a launcher and follows them to their ends. One at a time acts, by a lease.

    Nothing that it knows is only in memory: it may be killed at any moment, and the next one goes
    on where it was.

    Args:
        db: The truth.
        settings: Of the service.
        launcher: What runs drivers.
        registry: The versions of the home.
        mirror: Brings the registry's aliases to what the database says.
    """

    def __init__(
        self,
        db: Database,
        settings: Settings,
        launcher: Launcher,
        registry: Registry,
        mirror: Mirror,
    ) -> None:
        self.db = db
        self.settings = settings
        self.registry = registry
        self.mirror = mirror
        self.holder = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._steps = JobSteps(db, settings, launcher, registry)
        self._limits = Limits(settings.max_running_jobs)
        self._lease: Lease | None = None
        self._renew_due = 0.0
        self._is_adopted, self._adopt_due = False, 0.0
        self._clear_due = 0.0
        self._log_once = LogOnce(_log)

    def run(self, stopping: threading.Event) -> None:
        """Turn until asked to stop; running jobs go on and are taken up by the next controller."""
        while not stopping.is_set():
            pause = self.settings.poll_seconds
            try:
                self.turn()
            except LeaseLostError as error:
                _log.warning("%s", error)
                self._lease = None
            except DatabaseUnavailableError as error:
                _log.warning("the database is away: %s", error)
                pause = AWAY_SECONDS
            except (RatchetError, OSError):
                _log.exception("a turn was cut short; the next begins anew")
                pause = AWAY_SECONDS
            stopping.wait(pause)
        self.leave()

    def leave(self) -> None:
        """Give the lease back, so that the next controller need not wait for its end."""
        if self._lease is None:
            return
        try:
            release(self.db, self._lease)
        except DatabaseUnavailableError as error:
            _log.warning("the lease is not given back, and runs out by itself: %s", error)
        self._lease = None

    def turn(self) -> bool:
        """Look at everything once, if the lease is or becomes ours.

        Returns:
            Whether it was.

        Raises:
            LeaseLostError: Another controller has taken over.
            DatabaseUnavailableError: The database is away.
        """
        lease = self._held()
        if lease is None:
            return False
        running = running_jobs(self.db)
        for job in running:
            self._step(job)
        for _ in range(self.settings.max_running_jobs if self._is_home_known() else 0):
            job = claim_next(self.db, self._renewed(), self._limits)
            if job is None:
                break
            running.append(job)
            self._step(job)
        self.mirror.turn(self._renewed)
        self._log_once.keep_only({job.id for job in running})
        if time.monotonic() >= self._clear_due:
            clear_ended(self.db, self.settings.home, self.registry)
            self._clear_due = time.monotonic() + CLEAR_SECONDS
        return True

    def _step(self, job: Job) -> None:
        """One job's turn; whatever is wrong with it stays its own."""
        lease = self._renewed()
        try:
            self._steps.step(lease, job)
        except (LeaseLostError, DatabaseUnavailableError):
            raise
        except InvalidTransitionError as error:
            self._log_once.say(job.id, f"changed meanwhile: {error}")
        except (OSError, BusyError) as error:  # a launcher, a disk, a lineage: it is tried again
            self._log_once.say(job.id, str(error))
        except (RatchetError, ValueError, TypeError, LookupError, AttributeError) as error:
            _log.exception("%s: cannot be gone on with", job.id)
            self._steps.abandon(lease, job, error)

    def _held(self) -> Lease | None:
        """The lease, taken if nobody has it."""
        if self._lease is not None:
            return self._renewed()
        seconds = self.settings.lease_seconds
        lease = acquire(self.db, LEASE_NAME, self.holder, seconds)
        if lease is None:
            return None
        _log.info("%s acts, in term %d", self.holder, lease.term)
        self._lease, self._renew_due = lease, time.monotonic() + seconds / 3
        self._is_adopted, self._adopt_due = False, 0.0
        return lease

    def _is_home_known(self) -> bool:
        """Whether the database has what lies in the home; an update starts from its champion."""
        if not self._is_adopted and time.monotonic() >= self._adopt_due:
            self._is_adopted = adopt_home(self.db, self.registry, self._renewed)
            self._adopt_due = time.monotonic() + ADOPT_SECONDS
        return self._is_adopted

    def _renewed(self) -> Lease:
        """The lease that is held, renewed in time."""
        assert self._lease is not None, "only a turn that has it asks"
        if time.monotonic() >= self._renew_due:
            self._lease = renew(self.db, self._lease, self.settings.lease_seconds)
            self._renew_due = time.monotonic() + self.settings.lease_seconds / 3
        return self._lease
