"""Following a job of a service: its events as lines, and below them how far it is."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.pages.words import count, duration, local, time_of_day, whole_percent
from ratchet.service.errors import OverloadedError, RateLimitedError, UnavailableError
from ratchet.service.schemas.jobs import EventView, JobView
from ratchet.service.schemas.jobs import Progress as JobProgress
from ratchet.service.terminal.progress_lines import PLAIN_LINE_SECONDS

REFRESH_SECONDS = 1.0
TICK_SECONDS = 2.0
END_SECONDS = 1.0
"""How long the end may wait for a reading that is under way."""

PASSING = (UnavailableError, OverloadedError, RateLimitedError)
COLOURS = {"warn": "yellow", "error": "red"}


class JobLines:
    """Shows events, and a bar on a terminal. Call it with each event, inside a `with` block.

    The bar moves between events too: a thread reads the job every few seconds.

    Args:
        console: Where the lines go.
        read_job: Reads the job as it is now; called from the thread too, never twice at a time.
        clock: Seconds that only grow.
        tick_seconds: From one reading between events to the next.
    """

    def __init__(
        self,
        console: Console,
        read_job: Callable[[], JobView],
        clock: Callable[[], float] = time.monotonic,
        tick_seconds: float = TICK_SECONDS,
    ) -> None:
        self._console = console
        self._read_job = read_job
        self._clock = clock
        self._due = 0.0
        self._progress: JobProgress | None = None
        self._progress_since = 0.0
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._row = self._bar.add_task("waiting", total=1.0)
        self._reading = threading.Lock()
        self._tick_seconds = tick_seconds
        self._is_over = threading.Event()
        self._ticker = threading.Thread(target=self._tick, name="job lines", daemon=True)

    def __enter__(self) -> JobLines:
        self._show(self._read_job())
        if self._console.is_terminal:
            self._bar.start()
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        if self._ticker.is_alive():
            self._ticker.join(END_SECONDS)
        self._bar.stop()

    def __call__(self, event: EventView) -> None:
        """Show an event; measurements only move the bar."""
        if event.type != "metrics":
            self._console.print(event_line(event), soft_wrap=True)
        self.refresh()

    def refresh(self) -> None:
        """Read how far the job is, where that was not done a moment ago and is not done just now.

        While the service is away, what was shown stays.
        """
        if not self._reading.acquire(blocking=False):
            return
        try:
            if self._clock() >= self._due:
                self._due = self._clock() + REFRESH_SECONDS
                with suppress(*PASSING):
                    self._show(self._read_job())
        finally:
            self._reading.release()

    def _show(self, job: JobView) -> None:
        now, share = self._clock(), share_done(job)
        if job.progress != self._progress:
            self._progress, self._progress_since = job.progress, now
        if self._console.is_terminal:
            self._due = now + REFRESH_SECONDS
            words = progress_words(job, now - self._progress_since)
            self._bar.update(self._row, description=escape(words), completed=share)
        else:
            self._due = now + PLAIN_LINE_SECONDS
            self._console.print(
                f"{escape(progress_words(job))} · {whole_percent(share)}", soft_wrap=True
            )

    def _tick(self) -> None:
        """Move the bar until the end. What goes wrong is for the one who waits to say."""
        while not self._is_over.wait(self._tick_seconds):
            # The client is closed at the end, maybe in the middle of a reading: a RuntimeError.
            with suppress(RatchetError, RuntimeError):
                self.refresh()


def event_line(event: EventView) -> str:
    """An event as a line of rich's markup."""
    when = time_of_day(local(event.created_at))
    text = escape(event.message)
    colour = COLOURS.get(event.level)
    return f"[dim]{when}[/] " + (f"[{colour}]{text}[/]" if colour else text)


def progress_words(job: JobView, age: float = 0.0) -> str:
    """What a job does now: `training · task 2/3 home · step 10/40 · 2 min 05 s left`.

    Args:
        job: The job.
        age: Seconds since its progress was said, which are no longer left.
    """
    parts = [job.status if job.status != "running" else job.phase]
    now = job.progress
    if job.status == "running" and now is not None:
        if now.index is not None and now.num_tasks is not None:
            parts.append(f"task {now.index}/{now.num_tasks} {now.task or ''}".rstrip())
        if now.step is not None and now.num_steps is not None:
            parts.append(f"step {count(now.step)}/{count(now.num_steps)}")
        if now.seconds_left is not None and now.seconds_left > age:
            parts.append(f"{duration(now.seconds_left - age)} left")
    return " · ".join(parts)


def share_done(job: JobView) -> float:
    """The share of a job's tasks and steps that is done, from 0 to 1."""
    if job.status == "succeeded":
        return 1.0
    now = job.progress
    if now is None or now.index is None or not now.num_tasks:
        return 0.0
    within = min(1.0, (now.step or 0) / now.num_steps) if now.num_steps else 0.0
    return min(1.0, (now.index - 1 + within) / now.num_tasks)
