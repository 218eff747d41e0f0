"""Starts the parts of a service, watches over them, and stops them all."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from types import FrameType

from ratchet.pipelines.errors import BusyError
from ratchet.pipelines.files.lock import exclusive
from ratchet.pipelines.processes.module_command import module_command
from ratchet.service.up.guard import ALL_WELL
from ratchet.service.up.layout import Layout, check_ports
from ratchet.service.up.parts import Part, inherited, parts_of
from ratchet.service.up.process import STOP_SECONDS, Child
from ratchet.service.up.record import Record, read_record
from ratchet.service.up.secrets import make_ray_token
from ratchet.service.up.stray_processes import began, end_stray_processes

LOOK_SECONDS = 0.3
CLEAN_UP_SECONDS = 10.0

Say = Callable[[str], None]


class Supervisor:
    """The running parts of a service.

    Args:
        layout: Where the service keeps its files.
        parts: What to run.
        say: Told what happens, a line at a time.
    """

    def __init__(self, layout: Layout, parts: Sequence[Part], say: Say) -> None:
        self.layout = layout
        self.children = [Child(part, layout.logs / f"{part.name}.log") for part in parts]
        self._say = say
        self._stopping = threading.Event()
        self._began = began(os.getpid())
        self._sessions: dict[int, float] = {}
        self._guard: subprocess.Popen[str] | None = None

    def stop_soon(self) -> None:
        """End `run`; may be called from a signal handler."""
        self._stopping.set()

    def run(self, when_ready: Callable[[], None]) -> None:
        """Start everything, call `when_ready` once all of it works, and go on until stopped.

        Raises:
            PartFailedError: A part dies again and again; everything was stopped.
        """
        self._write_record()
        told = False
        try:
            while not self._stopping.wait(LOOK_SECONDS):
                self._watch_guard()
                self._watch()
                if not told and all(child.is_ready for child in self.children):
                    told = True
                    when_ready()
        finally:
            self._stop()

    def _watch(self) -> None:
        """One round: the dead are noticed, those that can be are started, the new are looked at."""
        for child in self.children:
            how = child.died()
            if how is not None:
                self._say(
                    f"{child.part.name} {how}; it is started again in "
                    f"{child.pause_seconds:.0f} s. Its log: {child.log}"
                )
                self._stop_those_that_need(child.part.name)
        ready = {child.part.name for child in self.children if child.is_ready}
        for child in self.children:
            if child.is_due and ready.issuperset(child.part.needs):
                child.start()
                self._sessions |= child.sessions
                self._write_record()
            if child.look():
                self._say(f"{child.part.name} works")

    def _stop_those_that_need(self, name: str) -> None:
        for child in self.children:
            if name in child.part.needs and child.pid is not None:
                self._say(f"{child.part.name} needs {name} and is started again with it")
                child.stop()

    def _watch_guard(self) -> None:
        """Keep a process that cleans up should this one be killed."""
        if self._guard is None or self._guard.poll() is not None:
            self._guard = subprocess.Popen(
                module_command("ratchet.service.up.guard", str(self.layout.record)),
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,
                env=inherited(),
            )

    def _stop(self) -> None:
        """Stop all but Ray at once, then Ray, then whatever they left."""
        self._say("stopping")
        others = [child for child in self.children if child.part.name != "ray"]
        for child in others:
            child.ask_to_stop()
        until = time.monotonic() + STOP_SECONDS
        for child in [*others, *self.children]:  # who has stopped already stays so
            seconds = max(1.0, until - time.monotonic()) if child in others else STOP_SECONDS
            if not child.stop(seconds):
                self._say(f"{child.part.name} did not stop in time and was killed")
        end_stray_processes(self.layout.mark, self._sessions, CLEAN_UP_SECONDS)
        self.layout.record.unlink(missing_ok=True)
        if self._guard is not None and self._guard.poll() is None:
            self._guard.communicate(ALL_WELL)
        shutil.rmtree(self.layout.ray_folder, ignore_errors=True)

    def _write_record(self) -> None:
        layout = self.layout
        record = Record(os.getpid(), self._began, layout.mark, layout.urls, self._sessions)
        record.write(layout.record)


@contextmanager
def supervising(
    layout: Layout, say: Say, parts: Sequence[Part] | None = None
) -> Generator[Supervisor, None, None]:
    """A supervisor that SIGINT and SIGTERM stop, with the home to itself and the ports free.

    What a supervisor that was killed left behind is ended first.

    Args:
        layout: The service.
        say: Told what happens, a line at a time.
        parts: What to run in the place of the layout's own parts.

    Raises:
        BusyError: A service of this home runs.
        SpecError: Ports that are taken.
    """
    layout.logs.mkdir(parents=True, exist_ok=True)
    layout.folder.chmod(0o700)
    with _alone(layout):
        before = read_record(layout.record)
        num_ended = end_stray_processes(
            layout.mark, {} if before is None else before.sessions, CLEAN_UP_SECONDS
        )
        if num_ended:
            say(f"ended {num_ended} processes that a service of this home had left behind")
        check_ports(layout)
        shutil.rmtree(layout.ray_folder, ignore_errors=True)
        make_ray_token(layout.ray_token)
        supervisor = Supervisor(layout, parts_of(layout) if parts is None else parts, say)
        with _stopped_by_signals(supervisor):
            yield supervisor


@contextmanager
def _alone(layout: Layout) -> Generator[None, None, None]:
    with ExitStack() as held:
        try:
            held.enter_context(exclusive(layout.lock, f"The service of {layout.home}"))
        except BusyError as error:
            record = read_record(layout.record)
            where = "" if record is None else f" at {record.urls['api']}, process {record.pid}"
            raise BusyError(
                f"--home: a service of {layout.home} runs already{where}. End it with Ctrl-C or "
                "SIGTERM, or give another --home"
            ) from error
        yield


@contextmanager
def _stopped_by_signals(supervisor: Supervisor) -> Generator[None, None, None]:
    def stop(_number: int, _frame: FrameType | None) -> None:
        supervisor.stop_soon()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, stop) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
