"""Progress of an update: one live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.text import Text

from ratchet.pipelines.pages.search import setting_words
from ratchet.pipelines.pages.words import count, counted, duration, percent
from ratchet.pipelines.training.events import (
    Planned,
    Resumed,
    RunEvent,
    Searched,
    SearchTrained,
    StageDone,
    StageStarted,
    StepTaken,
    Taught,
    Warned,
)
from ratchet.pipelines.update.progress import RunProgress

PLAIN_LINE_SECONDS = 10.0


class ProgressLines:
    """Turns the events of an update into lines. Call it with each event, inside a `with` block.

    Args:
        console: Where the lines go.
        clock: Seconds that only grow.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.clock = clock
        self.started = clock()
        self._run = RunProgress()
        self._line_due = 0.0
        self._lock = threading.Lock()
        self._live: Live | None = None

    def __enter__(self) -> ProgressLines:
        if self.console.is_terminal:
            self._live = Live(
                Text("reading the data …", style="dim"),
                console=self.console,
                transient=True,
                refresh_per_second=5,
            )
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def __call__(self, event: RunEvent) -> None:
        """Show one event; those that nobody needs are passed over."""
        with self._lock:
            self._run.see(event, self.clock())
            self._show(event)

    def _show(self, event: RunEvent) -> None:
        match event:
            case Warned(message=message):
                self._say(f"[yellow]warning:[/] {escape(message)}")
            case Planned():
                self._planned(event)
            case Resumed():
                self._resumed(event)
            case StageStarted():
                self._stage_started(event)
            case SearchTrained():
                self._search_trained(event)
            case Searched():
                self._searched(event)
            case StepTaken():
                self._step(event)
            case StageDone():
                self._stage_done(event)
            case Taught():
                self._status("writing the version …")
            case _:
                pass

    def _planned(self, event: Planned) -> None:
        taught = f"{counted(len(self._run.tasks), 'task')} ({counted(self._run.num_rows, 'row')})"
        start = f"version {event.parent}" if event.parent else "the base model"
        self._say(f"teaching {taught} from {escape(start)}")
        self._status("preparing …")

    def _resumed(self, event: Resumed) -> None:
        self._say(
            f"going on from the last checkpoint: {counted(event.stages_done, 'task')} done, "
            f"epoch {event.epoch + 1}, step {event.step_in_epoch + 1} of it"
        )

    def _stage_started(self, event: StageStarted) -> None:
        self._line_due = self.clock() + PLAIN_LINE_SECONDS
        line = f"{self._place(event.tasks)} · starting"
        self._status(line)
        if self._live is None:
            self._say(escape(line))

    def _search_trained(self, event: SearchTrained) -> None:
        words = setting_words(event.setting.learning_rate, event.setting.strengths)
        score = "diverged" if event.score is None else f"{percent(event.score)} on validation"
        line = f"{self._place([event.task])} · tried {words}: {score}"
        self._status(line)
        if self._live is None:
            self._say(escape(line))

    def _searched(self, event: Searched) -> None:
        record = event.record
        words = setting_words(record.decided.learning_rate, record.decided.strengths)
        seconds = duration(record.seconds)
        line = f"{self._place([event.task])} · to be taught with {words}"
        self._say(f"{escape(line)} ({counted(len(record.tried), 'training')} in {seconds})")
        if not record.accepted:
            self._say(
                "[yellow]warning:[/] even so it learns less than stability_decay.tolerance allows"
            )

    def _step(self, event: StepTaken) -> None:
        left = self._run.seconds_left(self.clock())
        parts = [
            self._place([event.task]),
            *([] if left is None else [f"{duration(left)} left"]),
            f"epoch {event.epoch + 1}/{self._run.num_epochs or '?'}",
            f"step {count(event.step)}/{count(event.num_steps)}",
            f"loss {event.loss:.3f}",
            f"{count(round(self._run.rows_per_second))} examples/s",
        ]
        line = " · ".join(parts)
        self._status(line)
        if self._live is None and self.clock() >= self._line_due:
            self._line_due = self.clock() + PLAIN_LINE_SECONDS
            self._say(escape(line))

    def _stage_done(self, event: StageDone) -> None:
        parts = [_score_line(task, event.scores[task]) for task in event.tasks]
        costs = [event.costs[task] for task in event.tasks]
        seconds = sum(
            value for own in costs for key, value in own.items() if key.endswith("_seconds")
        )
        place = escape(self._place(event.tasks))
        self._say(f"{place} · [green]learned[/] in {duration(seconds)} · {', '.join(parts)}")

    def _place(self, names: Sequence[str]) -> str:
        """Task k of n, by name."""
        total, before = len(self._run.tasks), self._run.num_tasks_before
        if len(names) > 1:
            return f"tasks {before + 1}-{before + len(names)} of {total} together"
        return f"task {before + 1}/{total} {names[0]}"

    def _say(self, markup: str) -> None:
        self.console.print(markup, soft_wrap=self._live is None)

    def _status(self, line: str) -> None:
        if self._live is not None:
            self._live.update(Text(line, style="dim", no_wrap=True, overflow="ellipsis"))


def _score_line(task: str, own: Mapping[str, float | None]) -> str:
    parts: list[str] = []
    if own["validation_all"] is not None:
        parts.append(f"{percent(own['validation_all'])} of validation right")
    parts.append(f"{percent(own['validation_own'])} given the task")
    return f"{escape(task)}: {', '.join(parts)}"
