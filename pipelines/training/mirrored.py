"""Checkpoints that go to a store as well, in the background of the steps that follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from ratchet.pipelines.errors import ObjectStoreError
from ratchet.pipelines.registry.s3.runs import open_run
from ratchet.pipelines.training.checkpoint import CheckpointStore
from ratchet.pipelines.training.event_log import EventLog
from ratchet.pipelines.training.events import Warned
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.workers import AnyWorkers

if TYPE_CHECKING:
    from ratchet.pipelines.registry.s3.runs import RemoteRun


class LocalCheckpoints(CheckpointStore, Protocol):
    """Checkpoints whose folders have names."""

    def path(self, name: str) -> Path:
        """The folder of a checkpoint that was saved."""
        ...


class MirroredCheckpoints:
    """Saves checkpoints where they always go; the first rank uploads each once all ranks have.

    Steps go on meanwhile; the next checkpoint waits for the upload of the one before, so that none
    is pushed out unfinished. A store that is away costs a warning: a lost machine would then go on
    from an earlier checkpoint.

    Args:
        local: Where they always go.
        run: Where they go as well.
        workers: The worker group.
        warn: Told what a person should know.
    """

    def __init__(
        self,
        local: LocalCheckpoints,
        run: RemoteRun,
        workers: AnyWorkers,
        warn: Callable[[str], None],
    ) -> None:
        self.local = local
        self.run = run
        self.workers = workers
        self.warn = warn
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="ratchet-upload")
        self._upload: Future[None] | None = None

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Save a checkpoint and begin to upload it."""
        self.settle()
        self.local.save(name, write)
        if self.workers.rank == 0:
            folder = self.local.path(name)
            self._upload = self._pool.submit(self.run.upload_checkpoint, folder)

    def latest(self) -> Path | None:
        """The newest complete checkpoint here."""
        return self.local.latest()

    def settle(self) -> None:
        """Wait for the upload that is under way."""
        upload, self._upload = self._upload, None
        if upload is None:
            return
        try:
            upload.result()
        except ObjectStoreError as error:
            self.warn(f"a checkpoint is not in the store, and the update goes on: {error}")

    def close(self) -> None:
        """Wait for the last upload, and end its thread."""
        self.settle()
        self._pool.shutdown()


@contextmanager
def mirrored_where_asked(
    job: UpdateJob, local: LocalCheckpoints, workers: AnyWorkers
) -> Iterator[CheckpointStore]:
    """Checkpoints of a job: in a store as well, where the job names a place there."""
    if job.mirror is None:
        yield local
        return
    events = EventLog(job.folder, workers.rank)

    def warn(message: str) -> None:
        events.emit(Warned(message))

    mirror = MirroredCheckpoints(local, open_run(job.mirror), workers, warn)
    try:
        yield mirror
    finally:
        mirror.close()
