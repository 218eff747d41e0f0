"""The instruments of an update that look while it is taught, and at its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from ratchet.pipelines.data.prepared import PreparedData
from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.evaluation.evaluator import Evaluator
from ratchet.pipelines.evaluation.example_history import ExampleHistory
from ratchet.pipelines.evaluation.flips import pack_right
from ratchet.pipelines.evaluation.instruments import (
    Findings,
    ForgettingEvents,
    Right,
    TaskEvents,
)
from ratchet.pipelines.report.data import ForgottenExample
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.probing import feature_groups, probe_tasks
from ratchet.pipelines.training.retention import general_data
from ratchet.pipelines.types import Task

NUM_MOST_FORGOTTEN = 20


class Instruments:
    """Measures what a spec's `evaluation` asks for; what costs a pass is off unless asked for.

    Args:
        job: The update.
        data: Its rows.
        evaluator: Computes features and answers.

    Raises:
        SpecError: An instrument does not work with this kind of model.
    """

    def __init__(self, job: UpdateJob, data: PreparedData, evaluator: Evaluator) -> None:
        self.job = job
        self.data = data
        self.evaluator = evaluator
        self.wanted = job.spec.evaluation
        self.right: list[Right] = []
        self.histories: dict[int, ExampleHistory] = {}
        self._check_kind()
        # Read before anything is taught, so that what is wrong with it costs nothing.
        self._general = general_data(job.spec, evaluator.model)

    def after_epoch(self, stage: Sequence[Task]) -> None:
        """Look at the examples of the stage that is being taught; every rank must call it."""
        if self.wanted.forgetting_events:
            self._look(stage, [task for task in self.job.tasks if task.id <= stage[-1].id])
            self.evaluator.stack.activate(self.evaluator.model, stage[-1].id)

    def after_stage(self, index: int) -> None:
        """Note what is right now, and look at the examples of every stage so far.

        Every rank must call it, after the evaluation of the stage.
        """
        answered = self.evaluator.right
        names = {task.id: task.name for task in self.job.tasks}
        row: dict[str, dict[str, str]] = {"own": {}, "all": {}}
        for task_id, (own, everything) in answered.items():
            row["own"][names[task_id]] = pack_right(own.tolist())
            if everything is not None:
                row["all"][names[task_id]] = pack_right(everything.tolist())
        self.right.append(row)
        if self.wanted.forgetting_events:
            done = self.job.stages[: index + 1]
            seen = [task for task in self.job.tasks if task.id <= done[-1][-1].id]
            for stage in done:
                self._look(stage, seen)

    def finish(self) -> Findings:
        """What is measured once, at the end, with what was counted; every rank must call it."""
        wanted, general = self.wanted, self._general
        probe = probe_tasks(self.evaluator, self.data, self.job.stages) if wanted.probe else None
        events = self._forgotten() if wanted.forgetting_events else None
        last = self.job.tasks[-1]
        retention = None if general is None else general.measure(self.evaluator, last)
        return Findings(probe, events, retention)

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint must hold of the histories."""
        return {
            f"{stage}/{name}": tensor
            for stage, history in self.histories.items()
            for name, tensor in history.state_dict().items()
        }

    def restore(self, right: Sequence[Right], tensors: Mapping[str, Tensor]) -> None:
        """Go on from what a checkpoint holds."""
        self.right = list(right)
        parts: dict[int, dict[str, Tensor]] = {}
        for key, tensor in tensors.items():
            stage, _, name = key.partition("/")
            parts.setdefault(int(stage), {})[name] = tensor
        self.histories = {stage: ExampleHistory.from_state(own) for stage, own in parts.items()}

    def _check_kind(self) -> None:
        asked = {
            "probe": self.wanted.probe,
            "forgetting_events": self.wanted.forgetting_events,
        }
        problems = [
            Problem(
                f"evaluation.{name}",
                "is measured on classifiers only, by classes or with a probe",
                self.job.spec.model.kind,
                "Remove it",
            )
            for name, is_asked in asked.items()
            if is_asked and self.job.spec.model.kind != "classifier"
        ]
        if problems:
            raise SpecError(problems)

    def _look(self, stage: Sequence[Task], seen: Sequence[Task]) -> None:
        rows = self.data.train[stage[0].stage]
        right = torch.zeros(len(rows), dtype=torch.bool)
        for group in feature_groups(self.evaluator.model, stage):
            features = self.evaluator.features_of(group[0].id, rows)
            for task in group:
                own = rows.task_ids == task.id
                right[own] = self.evaluator.is_right(task, seen, features[own], rows.targets[own])
        number = stage[0].stage
        self.histories.setdefault(number, ExampleHistory.of(len(rows))).look(right)

    def _forgotten(self) -> ForgettingEvents:
        """Events by task, and the examples with the most."""
        by_task: dict[str, TaskEvents] = {}
        examples: list[ForgottenExample] = []
        for task, rows, counts, never in self._examples():
            by_task[task.name] = TaskEvents(
                mean=float(counts.double().mean()),
                never_learned=int(never.sum()),
                num_examples=len(counts),
            )
            examples += rows
        examples.sort(key=lambda one: (-one.events, one.never_learned, one.text))
        return ForgettingEvents(by_task, tuple(examples[:NUM_MOST_FORGOTTEN]))

    def _examples(self) -> Iterator[tuple[Task, list[ForgottenExample], Tensor, Tensor]]:
        for stage in self.job.stages:
            history = self.histories[stage[0].stage]
            rows, counts = self.data.train[stage[0].stage], history.counts()
            for task in stage:
                own = (rows.task_ids == task.id).nonzero()[:, 0]
                most = own[counts[own].argsort(descending=True, stable=True)][:NUM_MOST_FORGOTTEN]
                places: list[int] = most.tolist()
                shown = [
                    ForgottenExample(
                        task=task.name,
                        label=self.job.labels[int(rows.targets[place])],
                        text=rows.texts[place],
                        events=int(counts[place]),
                        never_learned=not bool(history.ever[place]),
                    )
                    for place in places
                ]
                yield task, shown, counts[own], ~history.ever[own]
