"""Finds the learning rate and the strengths of each stage with the data of its own task alone.

The stability-plasticity framework of De Lange et al. 2021, arXiv:1909.08383: what plain fine-tuning
reaches on the task says how much may be asked of the methods that hold old ones. Rows of earlier
tasks are looked at by nobody here, but for those that a method itself remembers and rehearses.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property

from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.errors import DivergedError
from ratchet.pipelines.evaluation.evaluator import Evaluator
from ratchet.pipelines.methods.base import MethodStack, StrengthMethod
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.pages.search_record import SearchRecord
from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.spec.auto_fields import (
    decay_settings,
    first_strengths,
    is_searched,
    searched_methods,
    searches_rate,
)
from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.spec.update_spec import TrainingSpec
from ratchet.pipelines.training.event_log import EventLog
from ratchet.pipelines.training.events import Searched, SearchTrained, Setting
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.loop import Position, Progress, StageLoop
from ratchet.pipelines.training.search_file import SEARCH_FILE, read_trainings, write_trainings
from ratchet.pipelines.training.snapshot import Snapshot
from ratchet.pipelines.training.task_search import TaskSearch, Training
from ratchet.pipelines.training.workers import AnyWorkers


class StabilityDecay:
    """Decides what each stage of an update is taught with.

    Args:
        job: The update.
        stack: Its methods.
        evaluator: Measures a task on its validation rows.
        workers: The worker group: all of them train and decide alike.
        events: Told of every training and of what was decided.

    Attributes:
        records: What was tried and decided, by task; see `TaskSearch.record`.
    """

    def __init__(
        self,
        job: UpdateJob,
        stack: MethodStack,
        evaluator: Evaluator,
        workers: AnyWorkers,
        events: EventLog,
    ) -> None:
        self.spec = job.spec
        self.stack = stack
        self.evaluator = evaluator
        self.workers = workers
        self.events = events
        self.records: dict[str, SearchRecord] = {}
        self._file = job.folder / SEARCH_FILE
        self._inherited = {} if job.parent is None else read_manifest(job.parent).strengths

    @property
    def is_wanted(self) -> bool:
        """Whether anything is left to be found."""
        return is_searched(self.spec)

    @property
    def found(self) -> dict[str, float]:
        """The strengths found last, by method: where the next task, or update, begins.

        They only ever fall, as in the authors' code.
        """
        found = dict(self._inherited)
        for record in self.records.values():
            found |= record.decided.strengths
        searched = {method.type for method in searched_methods(self.spec.methods)}
        return {kind: strength for kind, strength in found.items() if kind in searched}

    def seconds(self, task: str) -> float:
        """Seconds of the trainings that a task's search took, interruptions or not."""
        return self.records[task].seconds

    def settle(self, ctx: TaskContext, rows: BatchRows) -> TrainingSpec:
        """Find what a stage is taught with, unless it was found before, and set the strengths.

        Every rank must call it, where the stage begins or goes on.

        Args:
            ctx: The stage's context.
            rows: Its training rows.

        Returns:
            The training settings with the rate that was found.

        Raises:
            DivergedError: Plain fine-tuning diverged at every rate.
        """
        task = ctx.task.name
        if not self.is_wanted:
            return self.spec.training
        if task not in self.records:
            search = self._begin(ctx)
            if search.rates:
                self._run(search, ctx, rows)
                self.records[task] = search.record()
                self.events.emit(Searched(task, self.records[task]))
        self._set_strengths({})
        if not searches_rate(self.spec):
            return self.spec.training
        return self._training(self.records[task].decided.learning_rate)

    def _training(self, rate: float) -> TrainingSpec:
        return self.spec.training.model_copy(update={"learning_rate": rate})

    def _set_strengths(self, tried: Mapping[str, float]) -> None:
        """Set every strength of the stack: as given, as found last, or as it is tried now."""
        self.stack.set_strengths(first_strengths(self.spec) | self.found | dict(tried))

    def _begin(self, ctx: TaskContext) -> TaskSearch:
        settings = decay_settings(self.spec)
        holding = [
            method.type
            for method in searched_methods(self.spec.methods)
            if method.holds_first_task or not ctx.is_first
        ]
        known = first_strengths(self.spec) | self.found
        strengths = {kind: known[kind] for kind in holding}
        rates: tuple[float, ...] = ()
        if searches_rate(self.spec):
            rates = settings.learning_rates
        elif strengths:
            rates = (self.spec.training.rate,)
        return TaskSearch(settings, rates, strengths, self._done.get(ctx.task.name, []))

    def _run(self, search: TaskSearch, ctx: TaskContext, rows: BatchRows) -> None:
        """Train again and again from one state; afterwards it is as if nothing had been."""
        start = Snapshot(ctx.model, self.stack, ctx.generator)
        while (setting := search.wanted()) is not None:
            started = time.perf_counter()
            score = self._train(setting, ctx, rows)
            start.restore()
            training = Training(setting, score, round(time.perf_counter() - started, 3))
            # Seconds differ between workers, and what is kept must not.
            search.trainings.append(self.workers.gather(training)[0])
            self._keep(ctx.task.name, search)
            self.events.emit(SearchTrained(ctx.task.name, setting, score, training.seconds))

    def _train(self, setting: Setting, ctx: TaskContext, rows: BatchRows) -> float | None:
        """The score after training with a setting; None where it diverged."""
        self._set_strengths(setting.strengths or {})
        stack = self._plain() if setting.strengths is None else self.stack
        own = replace(ctx, step=0, epoch=0)
        stack.activate(ctx.model, ctx.task.id)
        training = self._training(setting.learning_rate)
        loop = StageLoop(own, stack, rows, training, self.workers)
        stack.begin_task(own)
        try:
            loop.start(Position())
            loop.run(Position(), _pass_over)
        except DivergedError:  # on every worker at the same step: gradients are those of all
            return None
        return self.evaluator.validation_score(ctx.task)

    def _plain(self) -> MethodStack:
        """The methods that give the model its structure, without any pull of theirs."""
        kept = {k: m for k, m in self.stack.methods.items() if METHOD_CONFIGS[k].owns_structure}
        plain = MethodStack(kept)
        plain.set_strengths({k: 0.0 for k, m in kept.items() if isinstance(m, StrengthMethod)})
        return plain

    @cached_property
    def _done(self) -> dict[str, list[Training]]:
        """The trainings that an interrupted run did, by task, as the first worker finds them."""
        done: dict[str, list[Training]] = {}
        if self.workers.rank == 0 and self._file.is_file():
            done = read_trainings(self._file)
        return self.workers.gather(done)[0]

    def _keep(self, task: str, search: TaskSearch) -> None:
        self._done[task] = list(search.trainings)
        if self.workers.rank == 0:
            write_trainings(self._file, self._done)


def _pass_over(_position: Position, _progress: Progress) -> None:
    """A step of a training that leaves no trace is reported to nobody."""
