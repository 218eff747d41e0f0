"""A part that runs: started, looked at, stopped, and started again when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from ratchet.pipelines.errors import RatchetError
from ratchet.service.up.parts import Part
from ratchet.service.up.stray_processes import began

START_SECONDS = 240.0
STOP_SECONDS = 25.0
MAX_DEATHS = 5
MAX_EARLY_DEATHS = 2
"""Of a part that has never worked: what is wrong with it will not mend itself."""

DEATHS_WITHIN_SECONDS = 600.0
LONGEST_PAUSE_SECONDS = 30.0
SHOWN_LINES = 15


class PartFailedError(RatchetError, RuntimeError):
    """A part of the service that dies again and again; says what its log ends with."""


class Child:
    """The process of a part, over its restarts.

    Attributes:
        part: What it is.
        log: Where its output goes.
        is_ready: Whether it worked when it was last looked at.
    """

    def __init__(self, part: Part, log: Path) -> None:
        self.part = part
        self.log = log
        self.is_ready = False
        self._process: subprocess.Popen[bytes] | None = None
        self._began = 0.0
        self._started = 0.0
        self._due = 0.0
        self._deaths: deque[float] = deque()
        self._has_worked = False

    @property
    def pid(self) -> int | None:
        """The process, which also leads its own session; None where there is none."""
        return None if self._process is None else self._process.pid

    @property
    def sessions(self) -> dict[int, float]:
        """When its session began, by session."""
        return {} if self._process is None else {self._process.pid: self._began}

    @property
    def is_due(self) -> bool:
        """Whether it is to be started."""
        return self._process is None and time.monotonic() >= self._due

    def start(self) -> None:
        """Run it, in a session of its own so that a Ctrl-C reaches the supervisor alone."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.part.command,
                env=self.part.variables,
                cwd=self.part.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        let_others_go_first(self._process.pid, self.part.niceness)
        self._began, self._started = began(self._process.pid), time.monotonic()

    def died(self) -> str | None:
        """How it ended since it was last asked, or None; what is left of it is killed.

        Raises:
            PartFailedError: It has died too often.
        """
        if self._process is None:
            return None
        if self._process.poll() is not None:
            how = _ending(self._process.returncode)
        elif not self.is_ready and time.monotonic() - self._started > START_SECONDS:
            how = f"did not work {START_SECONDS:.0f} seconds after its start"
        else:
            return None
        self.stop(0)
        self._count_death(how)
        return how

    def look(self) -> bool:
        """Find out whether it works, where that is not known; whether that is news."""
        if self._process is None or self.is_ready:
            return False
        self.is_ready = self.part.is_ready()
        self._has_worked |= self.is_ready
        return self.is_ready

    def ask_to_stop(self) -> None:
        """Tell it to end, without waiting."""
        if self._process is not None:
            self._process.terminate()  # it alone: Ray and MLflow stop their own helpers in order

    def stop(self, seconds: float = STOP_SECONDS) -> bool:
        """Have it end, by force after some seconds, with everything in its session's group.

        Returns:
            Whether it ended by itself.
        """
        if self._process is None:
            return True
        if seconds:
            self._process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(seconds)
        ended = self._process.poll() is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process, self.is_ready = None, False
        return ended

    @property
    def pause_seconds(self) -> float:
        """How long it stays away after its last death."""
        return max(0.0, self._due - time.monotonic())

    def _count_death(self, how: str) -> None:
        now = time.monotonic()
        self._deaths.append(now)
        while now - self._deaths[0] > DEATHS_WITHIN_SECONDS:
            self._deaths.popleft()
        if len(self._deaths) > (MAX_DEATHS if self._has_worked else MAX_EARLY_DEATHS):
            raise PartFailedError(
                f"{self.part.name}: died {len(self._deaths)} times within "
                f"{DEATHS_WITHIN_SECONDS / 60:.0f} minutes; the last time it {how}. Its log, "
                f"{self.log}, ends with:\n{self.last_lines()}"
            )
        self._due = now + min(LONGEST_PAUSE_SECONDS, 0.5 * 2 ** len(self._deaths))

    def last_lines(self) -> str:
        """The end of its log."""
        with self.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 8192))
            text = file.read().decode(errors="replace")
        return "\n".join(f"  {line}" for line in text.splitlines()[-SHOWN_LINES:])


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with code {code}"
    return f"was ended by {signal.Signals(-code).name}"


def let_others_go_first(pid: int, niceness: int) -> None:
    """Lower the priority of a session, where Linux shares the processor out by session.

    Ray lowers its workers by itself, which counts inside its session only: beside two workers that
    train on two cores, the API answered in seconds.

    Args:
        pid: The process that leads the session.
        niceness: From 0, which changes nothing, to 19.
    """
    if niceness:
        with suppress(OSError):  # no such file: priorities count between sessions then
            Path(f"/proc/{pid}/autogroup").write_text(str(niceness), encoding="utf-8")
