"""Following a job of a service: its events as lines, and below them how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

from service.api.native_schemas import EventView, JobView
from service.console_lines import PLAIN_LINE_SECONDS, duration

REFRESH_SECONDS = 1.0
COLOURS = {"warn": "yellow", "error": "red"}


class JobLines:
    """Shows events, and a bar on a terminal. Call it with each event, inside a `with` block.

    Args:
        console: Where the lines go.
        read_job: Reads the job as it is now.
        clock: Seconds that only grow.
    """

    def __init__(
        self,
        console: Console,
        read_job: Callable[[], JobView],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console = console
        self._read_job = read_job
        self._clock = clock
        self._due = 0.0
        columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
        self._bar = Progress(*columns, console=console, transient=True)
        self._row = self._bar.add_task("waiting", total=1.0)

    def __enter__(self) -> JobLines:
        if self._console.is_terminal:
            self._bar.start()
        self.refresh()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.stop()

    def __call__(self, event: EventView) -> None:
        """Show an event; measurements only move the bar."""
        if event.type != "metrics":
            self._console.print(event_line(event), soft_wrap=True)
        self.refresh()

    def refresh(self) -> None:
        """Read how far the job is, where that was not done a moment ago."""
        if self._clock() < self._due:
            return
        job = self._read_job()
        words, share = progress_words(job), share_done(job)
        if self._console.is_terminal:
            self._due = self._clock() + REFRESH_SECONDS
            self._bar.update(self._row, description=escape(words), completed=share)
        else:
            self._due = self._clock() + PLAIN_LINE_SECONDS
            self._console.print(f"{escape(words)} · {share:.0%}", soft_wrap=True)


def event_line(event: EventView) -> str:
    """An event as a line of rich's markup."""
    when = datetime.fromtimestamp(event.created_at, UTC).astimezone().strftime("%H:%M:%S")
    text = escape(event.message)
    colour = COLOURS.get(event.level)
    return f"[dim]{when}[/] " + (f"[{colour}]{text}[/]" if colour else text)


def progress_words(job: JobView) -> str:
    """What a job does now: `training · task 2/3 home · step 10/40 · 2 min 05 s left`."""
    parts = [job.status if job.status != "running" else job.phase]
    now = job.progress
    if job.status == "running" and now is not None:
        if now.index is not None and now.num_tasks is not None:
            parts.append(f"task {now.index}/{now.num_tasks} {now.task or ''}".rstrip())
        if now.step is not None and now.num_steps is not None:
            parts.append(f"step {now.step}/{now.num_steps}")
        if now.seconds_left is not None:
            parts.append(f"{duration(now.seconds_left)} left")
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
