"""How far a run is, from its events: the one set of books that is shown and recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ratchet.pipelines.training.events import (
    Planned,
    PlannedStage,
    Resumed,
    RunEvent,
    StageDone,
    StageStarted,
    StepTaken,
)
from ratchet.pipelines.update.step_count import StepCount

SMOOTHING = 0.2


@dataclass(frozen=True)
class Place:
    """Where a run is.

    Attributes:
        task: The task that is taught, or was just learned.
        index: Its place among all tasks, from 1; None where it is not one of them.
        num_tasks: Tasks of the run.
        step: Steps of the stage that were taken.
        num_steps: Steps of the stage.
        seconds_left: Seconds to the last step of the run, to a tenth; None where not yet known.
    """

    task: str
    index: int | None
    num_tasks: int
    step: int
    num_steps: int
    seconds_left: float | None


class RunProgress:
    """Keeps the books of a run: tell it every event, then ask.

    Attributes:
        stages: What is taught, in order; empty until the data was checked.
        loss: Of the last step; None before the first.
        rows_per_second: Smoothed over the steps of the stage; 0 before its first.
    """

    def __init__(self) -> None:
        self.stages: tuple[PlannedStage, ...] = ()
        self.loss: float | None = None
        self.rows_per_second = 0.0
        self._stage = 0
        self._task = ""
        self._step = self._of_step = 0
        self._steps = StepCount()

    def see(self, event: RunEvent, now: float) -> None:
        """Book an event; most change nothing.

        Args:
            event: Any event of the run.
            now: Seconds that only grow.
        """
        match event:
            case Planned():
                self.stages = event.stages
                self._steps.total = self._before(len(event.stages))
            case Resumed(stages_done=done):
                self._steps.skip(self._before(done))
            case StageStarted(tasks=names):
                self._begin(names)
            case StepTaken():
                self._take(event, now)
            case StageDone(tasks=names):
                self._task = names[-1]
                self._step = self._of_step = self.num_steps
            case _:
                pass

    @property
    def tasks(self) -> list[str]:
        """Names of all tasks, in the order in which they are taught."""
        return [name for stage in self.stages for name in stage.tasks]

    @property
    def num_rows(self) -> int:
        """Training rows of all stages."""
        return sum(stage.num_rows for stage in self.stages)

    @property
    def num_tasks_before(self) -> int:
        """Tasks of the stages before the one that is taught."""
        return sum(len(stage.tasks) for stage in self.stages[: self._stage])

    @property
    def num_steps(self) -> int:
        """Steps of the stage that is taught; 0 where nothing is planned."""
        return self.stages[self._stage].num_steps if self.stages else 0

    @property
    def num_epochs(self) -> int | None:
        """Epochs of the stage that is taught; None where nothing is planned."""
        return self.stages[self._stage].num_epochs if self.stages else None

    @property
    def num_steps_through_stage(self) -> int:
        """Steps of the run to the end of the stage that is taught."""
        return self._before(self._stage + 1)

    def seconds_left(self, now: float) -> float | None:
        """Seconds to the last step of the run; None where too few were seen."""
        return self._steps.seconds_left(now)

    def place(self, now: float) -> Place:
        """Where the run is."""
        names, left = self.tasks, self.seconds_left(now)
        return Place(
            task=self._task,
            index=names.index(self._task) + 1 if self._task in names else None,
            num_tasks=len(names),
            step=self._step,
            num_steps=self._of_step,
            seconds_left=None if left is None else round(left, 1),
        )

    def _begin(self, names: Sequence[str]) -> None:
        found = (i for i, stage in enumerate(self.stages) if stage.tasks == names)
        self._stage = next(found, self._stage)
        self._steps.begin(self._before(self._stage))
        self._task, self._step, self._of_step = names[0], 0, self.num_steps
        self.rows_per_second = 0.0

    def _take(self, event: StepTaken, now: float) -> None:
        self._steps.see(event.step, now)
        self._task, self._step, self._of_step = event.task, event.step, event.num_steps
        self.loss = event.loss
        change = event.rows_per_second - self.rows_per_second
        self.rows_per_second += change * (SMOOTHING if self.rows_per_second else 1.0)

    def _before(self, num_stages: int) -> int:
        """Steps of the first stages."""
        return sum(stage.num_steps for stage in self.stages[:num_stages])
