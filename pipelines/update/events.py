"""The events of a run while it is taught: to the caller, and to the tracker."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ratchet.pipelines.evaluation.costs import split_costs
from ratchet.pipelines.evaluation.history import main_measure
from ratchet.pipelines.tracking.tracker import Tracker
from ratchet.pipelines.training.event_log import EventReader
from ratchet.pipelines.training.events import (
    RunEvent,
    Searched,
    StageDone,
    StageStarted,
    StepTaken,
)
from ratchet.pipelines.update.plan import Plan, num_train

POLL_SECONDS = 0.2

EventHandler = Callable[[RunEvent], None]


@contextmanager
def following(folder: Path, on_event: EventHandler, tracker: Tracker, plan: Plan) -> Iterator[None]:
    """Follow the events of a run in a thread while the block runs.

    Args:
        folder: The run.
        on_event: Told of every event from now on.
        tracker: Told of what belongs into MLflow, which it is sent to from the same thread.
        plan: What is taught.
    """
    reader = EventReader(folder)
    reader.skip_to_end()
    ended = threading.Event()
    track = _EventTracking(tracker, plan)

    def follow() -> None:
        tracker.send()  # loading MLflow takes seconds, in which the workers start
        while True:
            last = ended.wait(POLL_SECONDS)
            for event in reader.read():
                on_event(event)
                track(event)
            if last:
                return

    thread = threading.Thread(target=follow, name="ratchet-events", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _EventTracking:
    """Hands events to the tracker."""

    def __init__(self, tracker: Tracker, plan: Plan) -> None:
        self.tracker = tracker
        self.plan = plan
        self.measure = main_measure(plan.job.spec.scenario)

    def __call__(self, event: RunEvent) -> None:
        match event:
            case StageStarted(tasks=names):
                for name in names:
                    self.tracker.task_started(name, self._sizes(name))
            case Searched(task=name, record=record):
                self.tracker.log_search(name, record)
            case StepTaken(task=name, step=step):
                values = {"loss": event.loss, "rows_per_second": event.rows_per_second}
                self.tracker.log_step(name, step, values)
            case StageDone():
                self._stage_done(event)
            case _:
                pass  # said to people, not tracked

    def _stage_done(self, event: StageDone) -> None:
        accuracies = {task: own[self.measure] for task, own in event.scores.items()}
        self.tracker.log_accuracies(event.stage + 1, accuracies)
        for name in event.tasks:
            seconds, rest = split_costs(event.costs[name])
            self.tracker.log_phases(name, seconds, int(rest["peak_memory_bytes"]))
            self.tracker.task_finished(name, event.scores[name])

    def _sizes(self, name: str) -> dict[str, int]:
        task = next(task for task in self.plan.job.new if task.name == name)
        return {
            "num_labels": len(task.class_ids),
            "num_train": num_train(self.plan, task.id),
            "num_validation": self.plan.data.held_out[task.id].num_validation,
        }
