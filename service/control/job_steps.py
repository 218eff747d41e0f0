"""One look at one running job: what its folder, the process table and the launcher say of it.

The folder counts most: a result is a result, whatever the launcher says of the process.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress

from ratchet.pipelines.errors import BusyError, DataError
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.update.kept_result import kept_result
from ratchet.service.control.assignment import assignment_of, attempt_of, folder_of
from ratchet.service.control.attempt_state import AttemptState, AttemptWatch
from ratchet.service.control.cleanup import clear_leftovers
from ratchet.service.control.follower import hear
from ratchet.service.control.launcher import Attempt, Launcher, LauncherError
from ratchet.service.control.retries import pause_before_retry
from ratchet.service.control.version_facts import check_result, new_version
from ratchet.service.driver.failure import failure_of
from ratchet.service.driver.job_folder import Failure, JobFolder
from ratchet.service.driver.kinds import run_name
from ratchet.service.errors import InvalidTransitionError
from ratchet.service.schemas.jobs import JobError, ProblemView
from ratchet.service.settings import Settings
from ratchet.service.store.database import Database
from ratchet.service.store.finishing import succeed
from ratchet.service.store.leases import confirm
from ratchet.service.store.records import Job, Lease, NewEvent
from ratchet.service.store.running_jobs import (
    end_cancelled,
    end_paused,
    fail,
    queue_stopped,
    record_events,
    record_submission,
    requeue,
)

CHUNKS_PER_LOOK = 8
STOPPING = "stopping"
"""The phase of a job whose attempt is being stopped because somebody asked for that."""
NO_ATTEMPT = 0
"""The fence behind which no attempt may act."""
TOO_LATE = "it was to be {} when its version had been written already, and so waits as challenger"

_log = logging.getLogger(__name__)


class JobSteps:
    """What a controller does with running jobs.

    Args:
        db: The truth.
        settings: Of the service.
        launcher: What runs drivers.
        registry: The versions of the home.
    """

    def __init__(
        self, db: Database, settings: Settings, launcher: Launcher, registry: Registry
    ) -> None:
        self.db = db
        self.settings = settings
        self.launcher = launcher
        self.registry = registry
        self._watch = AttemptWatch(launcher)

    def step(self, lease: Lease, job: Job) -> None:
        """Look at a running job, and do what follows from that.

        Raises:
            LeaseLostError: Another controller acts.
            InvalidTransitionError: The job changed meanwhile: look again.
            LauncherError: The launcher did not take it: look again.
            BusyError: Somebody else teaches its lineage: look again.
            RatchetError: The job's folder, or what lies in it, makes no sense.
        """
        folder = folder_of(self.settings, job)
        # A pause that was taken back once its attempt was behind the fence goes on to its end, too.
        is_stopping = job.wanted is not None or job.phase == STOPPING
        job = self._follow(lease, job, folder)
        if self._has_given(lease, job, folder, is_stopping):
            return
        if is_stopping:
            self._end_as_asked(lease, job, folder)
            return
        found = self._watch.sight(attempt_of(self.settings, job))
        if found is AttemptState.WAITING or found is AttemptState.WORKING:
            return
        if found is AttemptState.UNKNOWN_THERE:
            try:
                self._submit(lease, job, folder)
            except (BusyError, LauncherError) as error:
                self._tell_why_it_waits(lease, job, error)
                raise
        elif found is AttemptState.STRAY:
            self._stop(lease, attempt_of(self.settings, job))
        else:
            job = self._follow(lease, job, folder)  # it may have ended well since we looked
            if not self._has_given(lease, job, folder, is_stopping):
                self._lost(lease, job)

    def abandon(self, lease: Lease, job: Job, error: Exception) -> None:
        """End a job that cannot be made sense of."""
        folder = folder_of(self.settings, job)
        with suppress(OSError):  # the fence of a folder that is broken holds nobody back
            self._fence(lease, folder, NO_ATTEMPT)
        with suppress(InvalidTransitionError):  # it ended meanwhile, which is as well
            self._fail(lease, job, failure_of(error))

    def _has_given(self, lease: Lease, job: Job, folder: JobFolder, is_stopping: bool) -> bool:
        """Whether the attempt has a result or a failure; what that leads to is done."""
        result, failure = folder.read_result(), folder.read_failure(job.attempt)
        # An attempt that was stopped, or failed in telling MLflow, may have written its version.
        if result is None and (is_stopping or failure is not None):
            result = self._kept(job)
        if result is not None:
            self._succeed(lease, job, result)
            return True
        if failure is not None and not is_stopping:
            self._failed(lease, job, folder, failure)
            return True
        return False

    def _kept(self, job: Job) -> JsonObject | None:
        """What the run of an update kept, where its driver was stopped before it could say so."""
        if job.kind != "update":
            return None
        lineage = str(job.lineage)
        run = self.settings.home / "runs" / lineage / run_name(job.id, job.parent)
        result = kept_result(run, self.registry, lineage)
        return None if result is None else result.to_json()

    def _follow(self, lease: Lease, job: Job, folder: JobFolder) -> Job:
        """Take what the job has said since the last look into the database."""
        for _ in range(CHUNKS_PER_LOOK):
            heard = hear(folder.events, job.events_offset, job.attempt)
            if heard.to_offset == job.events_offset:
                break
            job = record_events(
                self.db,
                lease,
                job.id,
                job.attempt,
                heard.told,
                job.events_offset,
                heard.to_offset,
                heard.phase,
                heard.progress,
            )
            if heard.is_all:
                break
        return job

    def _submit(self, lease: Lease, job: Job, folder: JobFolder) -> None:
        try:
            task = assignment_of(self.db, self.settings, job)
        except DataError as error:
            self._fail(lease, job, failure_of(error))
            return
        self._check_free(job)
        confirm(self.db, lease)
        folder.write_assignment(task)
        self._fence(lease, folder, job.attempt)
        self.launcher.submit(attempt_of(self.settings, job))
        record_submission(self.db, lease, job, f"Attempt {job.attempt} was submitted")
        _log.info("%s: attempt %d was submitted", job.id, job.attempt)

    def _check_free(self, job: Job) -> None:
        """Make sure that nobody beside the service teaches the lineage: a driver would only wait.

        Raises:
            BusyError: Somebody does; says who.
        """
        if job.kind == "update":
            with self.registry.update_lock(str(job.lineage)):
                return

    def _tell_why_it_waits(self, lease: Lease, job: Job, error: Exception) -> None:
        """Let users know what holds up a job, once."""
        if job.phase != "waiting":
            told, place = (NewEvent(f"Waits: {error}", "warn"),), job.events_offset
            record_events(self.db, lease, job.id, job.attempt, told, place, place, "waiting")

    def _succeed(self, lease: Lease, job: Job, result: Mapping[str, Json]) -> None:
        version = None
        if job.kind == "update":
            check_result(result, str(job.lineage))
            refusal = None if job.wanted != "cancel" else TOO_LATE.format("cancelled")
            version = new_version(self.registry, result, job.parent, refusal)
        ended = succeed(self.db, lease, job, result, version)
        told = "" if version is None else f", version {version.number} ({version.decision})"
        _log.info("%s: %s in attempt %d%s", job.id, ended.status, job.attempt, told)
        self._clear(job)

    def _failed(self, lease: Lease, job: Job, folder: JobFolder, failure: Failure) -> None:
        """Queue a failed attempt's job again, or end it."""
        pause = pause_before_retry(
            failure, job.num_lost, self.settings.max_lost_attempts, _memory_failures(job, folder)
        )
        if pause is None:
            self._fail(lease, job, failure)
        else:
            self._requeue(lease, job, failure, pause)

    def _lost(self, lease: Lease, job: Job) -> None:
        attempt = attempt_of(self.settings, job)
        if self._may_act(attempt):  # on a machine that was cut off, say, it may still live
            self._fence(lease, attempt.folder, NO_ATTEMPT)
        failure = Failure("lost", f"the driver of attempt {job.attempt} is gone without a word")
        pause = pause_before_retry(None, job.num_lost, self.settings.max_lost_attempts)
        if pause is not None:
            self._requeue(lease, job, failure, pause)
            return
        kept = self._kept(job)
        if kept is not None:  # nothing was left to do but to say so
            self._succeed(lease, job, kept)
            return
        limit = self.settings.max_lost_attempts
        message = f"{job.num_lost + 1} attempts were lost, and {limit} may be: see their logs"
        self._fail(lease, job, Failure("lost", message))

    def _requeue(self, lease: Lease, job: Job, failure: Failure, pause: float) -> None:
        error = _error(failure)
        again = requeue(self.db, lease, job, error, pause)
        _log.warning("%s: attempt %d: %s; %s", job.id, job.attempt, failure.message, again.status)

    def _fail(self, lease: Lease, job: Job, failure: Failure) -> None:
        fail(self.db, lease, job, _error(failure))
        _log.warning("%s: failed in attempt %d: %s", job.id, job.attempt, failure.message)
        self._clear(job)

    def _end_as_asked(self, lease: Lease, job: Job, folder: JobFolder) -> None:
        """Cancel or pause a job, or queue it again, once nothing of it runs any more."""
        attempt = attempt_of(self.settings, job)
        if not self._has_stopped(attempt):
            if job.phase != STOPPING:
                place = job.events_offset
                record_events(self.db, lease, job.id, job.attempt, (), place, place, STOPPING)
            self._stop(lease, attempt)
            return
        job = self._follow(lease, job, folder)
        if self._has_given(lease, job, folder, is_stopping=True):
            return
        if job.wanted is None:
            queue_stopped(self.db, lease, job)
        elif job.wanted == "pause":
            end_paused(self.db, lease, job)
        else:
            end_cancelled(self.db, lease, job)
            self._clear(job)
        _log.info("%s: %s as asked", job.id, job.wanted or "resume")

    def _has_stopped(self, attempt: Attempt) -> bool:
        """Whether nothing of an attempt runs; one that would begin now is behind the fence."""
        if self._may_act(attempt):
            return False
        found = self._watch.sight(attempt)
        if found is AttemptState.WAITING:
            return self.launcher.look(attempt) == "unknown"
        return found is AttemptState.LOST or found is AttemptState.UNKNOWN_THERE

    def _may_act(self, attempt: Attempt) -> bool:
        """Whether the fence lets an attempt act, should it begin or wake up after all."""
        folder = attempt.folder
        return folder.path.is_dir() and folder.read_fence() == attempt.number

    def _fence(self, lease: Lease, folder: JobFolder, attempt: int) -> None:
        """Let an attempt act and no other, unless another controller decides that by now."""
        confirm(self.db, lease)
        folder.write_fence(attempt)

    def _stop(self, lease: Lease, attempt: Attempt) -> None:
        try:
            if attempt.folder.path.is_dir():
                self._fence(lease, attempt.folder, NO_ATTEMPT)
        except OSError:  # a full disk takes no fence, and the process can be ended all the same
            self.launcher.stop(attempt)
            raise
        self.launcher.stop(attempt)

    def _clear(self, job: Job) -> None:
        """Remove what only going on with a job would need."""
        if job.kind == "update":
            clear_leftovers(self.settings.home, self.registry, job)


def _error(failure: Failure) -> JobError:
    """A failure as the database keeps it."""
    problems = [
        ProblemView(where=own.where, message=own.message, value=own.value, hint=own.hint)
        for own in failure.problems
    ]
    return JobError(code=failure.kind, message=failure.message, problems=problems)


def _memory_failures(job: Job, folder: JobFolder) -> int:
    found = (folder.read_failure(number) for number in range(1, job.attempt + 1))
    return sum(failure is not None and failure.kind == "memory" for failure in found)
