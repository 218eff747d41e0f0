"""What an update says of itself, as lines of its job's journal: phases, progress, metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from ratchet.pipelines.training.events import (
    Planned,
    Resumed,
    RunEvent,
    Searched,
    StageDone,
    StageStarted,
    StepTaken,
    Taught,
    Warned,
)
from ratchet.pipelines.update.progress import RunProgress
from ratchet.service.driver.journal import Journal

PROGRESS_SECONDS = 1.0
METRICS_SECONDS = 2.0
PROGRESS_PER_RUN = 2000
METRICS_PER_RUN = 200
"""Lines become rarer as a run grows, so that a week of them is a few megabytes at most."""


class Progress:
    """Turns the events of `run_update` into lines. Call it with each of them.

    Args:
        journal: Where the lines go.
        clock: Seconds that only grow.
    """

    def __init__(self, journal: Journal, clock: Callable[[], float] = time.monotonic) -> None:
        self.journal = journal
        self.clock = clock
        self._started = clock()
        self._run = RunProgress()
        self._progress_due = 0.0
        self._metrics_due = 0.0

    def __call__(self, event: RunEvent) -> None:
        """Say one event; those that nobody needs are passed over."""
        self._run.see(event, self.clock())
        match event:
            case Warned(message=message):
                self.journal.write(message, level="warn")
            case Planned():
                self._planned(event)
            case Resumed():
                self._resumed(event)
            case StageStarted():
                self._stage_started(event)
            case Searched(task=task, record=record):
                data = {"task": task, "decided": asdict(record.decided)}
                self.journal.write(f"settings for {task} were found", data=data)
            case StepTaken():
                self._step(event)
            case StageDone():
                self._stage_done(event)
            case Taught():
                self.journal.write("every task is taught", type="status", phase="gating")
            case _:
                pass

    def _planned(self, event: Planned) -> None:
        names, rows = self._run.tasks, self._run.num_rows
        start = "the base model" if event.parent is None else f"version {event.parent}"
        self.journal.write(
            f"data checked: {len(names)} tasks, {rows} rows; starting from {start}",
            type="status",
            phase="starting",
            data={"tasks": names, "num_rows": rows, "parent": event.parent},
        )

    def _resumed(self, event: Resumed) -> None:
        done = event.stages_done
        place = {"stages_done": done, "epoch": event.epoch}
        place["step_in_epoch"] = event.step_in_epoch
        message = f"going on from the last checkpoint: {done} tasks done"
        self.journal.write(message, type="status", phase="recovering", data=place)

    def _stage_started(self, event: StageStarted) -> None:
        self._progress_due = self._metrics_due = 0.0
        place = self._place()
        task = f"task {place['index']} of {place['num_tasks']}"
        message = f"training {task}: {', '.join(event.tasks)}"
        self._say_progress("training", place)
        self.journal.write(message, type="status", phase="training", data=place)

    def _step(self, event: StepTaken) -> None:
        now, is_last = self.clock(), event.step >= event.num_steps
        place = self._place()
        if is_last or now >= self._progress_due:
            self._progress_due = now + self._pause(PROGRESS_SECONDS, PROGRESS_PER_RUN)
            self._say_progress("evaluating" if is_last else "training", place)
        if is_last or now >= self._metrics_due:
            self._metrics_due = now + self._pause(METRICS_SECONDS, METRICS_PER_RUN)
            self._say_metrics(event, place)

    def _stage_done(self, event: StageDone) -> None:
        names = event.tasks
        done = self._run.num_steps_through_stage
        known = event.scores[names[-1]]
        metrics = {name: known.get(name) for name in ("validation_own", "validation_all")}
        self.journal.write(
            f"learned {', '.join(names)}",
            type="checkpoint",
            phase="evaluating",
            data={**self._place(), "step_number": done, "metrics": metrics},
        )

    def _say_progress(self, phase: str, place: Mapping[str, Any]) -> None:
        self.journal.write("", type="progress", phase=phase, data=place)

    def _say_metrics(self, event: StepTaken, place: Mapping[str, Any]) -> None:
        data = {
            "step": event.step,
            "num_steps": event.num_steps,
            "task": event.task,
            "index": place["index"],
            "epoch": event.epoch,
            "train_loss": event.loss,
            "rows_per_second": event.rows_per_second,
        }
        message = f"{event.task}: step {event.step} of {event.num_steps}"
        self.journal.write(message, type="metrics", data=data)

    def _pause(self, least: float, per_run: int) -> float:
        """Seconds until the next line of a kind: more, the longer the run."""
        return max(least, (self.clock() - self._started) / per_run)

    def _place(self) -> dict[str, Any]:
        return asdict(self._run.place(self.clock()))
