# pyright: reportUnknownArgumentType=false, reportUnknownLambdaType=false
"""The watch of a driver: it beats, and ends the process at once when it may or should not go on.

It runs in a thread of its own, so that neither a long step nor a library at import holds it up.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import psutil

from ratchet.pipelines.errors import SpecError
from ratchet.service.driver.job_folder import FenceLostError, JobFolder

BEAT_SECONDS = 1.0


class Watch:
    """Touches the heartbeat; ends the process when a newer attempt acts, or its parent is gone.

    SIGTERM ends it too, at once and whatever the main thread does. Nothing is lost by that:
    checkpoints are written in one step.

    Args:
        folder: The job's folder.
        attempt: The attempt that this process is.
        with_parent: Whether to end with the process that started this one.
        on_end: Told why, right before the end.
    """

    def __init__(
        self, folder: JobFolder, attempt: int, with_parent: bool, on_end: Callable[[str], None]
    ) -> None:
        self.folder = folder
        self.attempt = attempt
        self._parent = os.getppid() if with_parent else None
        self._on_end = on_end
        self._woken, self._waking = os.pipe()
        os.set_blocking(self._waking, False)
        self._has_complained = False

    def start(self) -> None:
        """Begin; in the main thread, which signals go to."""
        signal.signal(signal.SIGTERM, lambda *_: None)
        # The byte is written by the handler in C: no need to wait for the main thread.
        signal.set_wakeup_fd(self._waking, warn_on_full_buffer=False)
        threading.Thread(target=self._run, name="ratchet-watch", daemon=True).start()

    def check_fence(self) -> None:
        """Make sure that this attempt may act.

        Raises:
            FenceLostError: A newer one does, or the folder is gone.
        """
        allowed = self.folder.read_fence()
        if allowed != self.attempt:
            raise FenceLostError(f"attempt {self.attempt} may not go on: {allowed} may")

    def _run(self) -> None:
        while True:
            reason = self._reason_to_end()
            if reason is not None:
                self._end(reason)
            self._beat()
            ready, _, _ = select.select([self._woken], [], [], BEAT_SECONDS)
            if ready and signal.SIGTERM in os.read(self._woken, 64):
                self._end("asked to stop")

    def _beat(self) -> None:
        try:
            self.folder.heartbeat.touch()
        except OSError as error:  # a full disk, say: signals and the fence are still looked at
            self._complain(error)

    def _complain(self, error: OSError) -> None:
        """Say once that the folder cannot be used; the log may lie on the same full disk."""
        if not self._has_complained:
            self._has_complained = True
            with suppress(OSError):
                sys.stderr.write(f"ratchet: the watch goes on without the job's folder: {error}\n")
                sys.stderr.flush()

    def _reason_to_end(self) -> str | None:
        if self._parent is not None and os.getppid() != self._parent:
            return "the process that started this one is gone"
        if not self.folder.path.is_dir():
            return "the job's folder is gone"
        try:
            self.check_fence()
        except (FenceLostError, SpecError) as error:
            return str(error)
        except OSError as error:  # nobody is known to act instead; the next look may tell
            self._complain(error)
        return None

    def _end(self, reason: str) -> NoReturn:
        try:
            self._on_end(reason)
        finally:
            end_children()
            os._exit(0)


def end_children(grace_seconds: float = 1.0) -> None:
    """End every process that this one started, the patient ones by force."""
    children = psutil.Process().children(recursive=True)
    for child in children:
        _send(child, signal.SIGTERM)
    _, alive = psutil.wait_procs(children, timeout=grace_seconds)
    for child in alive:
        _send(child, signal.SIGKILL)


def _send(process: psutil.Process, number: signal.Signals) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return
