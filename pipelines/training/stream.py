"""Teaches a stream of tasks: what every worker of an update runs, in a group or alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ratchet.pipelines.data.prepared import PreparedData
from ratchet.pipelines.evaluation.calibration import Calibration, calibrate
from ratchet.pipelines.evaluation.flips import pack_scores
from ratchet.pipelines.evaluation.instruments import Findings
from ratchet.pipelines.evaluation.language import make_evaluator
from ratchet.pipelines.evaluation.learned_answers import LearnedAnswers
from ratchet.pipelines.evaluation.scores import Scores
from ratchet.pipelines.files.atomic_file import put_on_disk
from ratchet.pipelines.methods.base import MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.registry import build_stack
from ratchet.pipelines.models.precision import Precision, autocast, resolve_precision
from ratchet.pipelines.models.router_statistics import RouterStatistics
from ratchet.pipelines.models.shards import wholes
from ratchet.pipelines.models.taught_model import base_hash
from ratchet.pipelines.training.checkpoint import (
    Checkpoint,
    CheckpointStore,
    read_checkpoint,
    restore_shards,
    under,
    write_checkpoint,
)
from ratchet.pipelines.training.event_log import EventLog
from ratchet.pipelines.training.events import (
    Resumed,
    StageDone,
    StageStarted,
    StepTaken,
    Taught,
    WorkerStarted,
)
from ratchet.pipelines.training.instruments import Instruments
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.loading import load_for_training
from ratchet.pipelines.training.loop import Position, Progress, StageLoop, shard_batches
from ratchet.pipelines.training.outcome import Outcome, write_outcome
from ratchet.pipelines.training.random_state import derive_seed, random_state, set_random_state
from ratchet.pipelines.training.run_state import RunState
from ratchet.pipelines.training.sharded_state import (
    describe_shards,
    own_parts,
    take_sharded,
    whole_states,
)
from ratchet.pipelines.training.sizes import column_sizes, held_sizes, sizes_of
from ratchet.pipelines.training.stability_decay import StabilityDecay
from ratchet.pipelines.training.stage_context import stage_context
from ratchet.pipelines.training.workers import AnyWorkers
from ratchet.pipelines.types import Task, route_classes, route_tasks
from ratchet.pipelines.version import (
    read_router,
    read_states,
    read_weights,
    write_router,
    write_states,
    write_weights,
)

PROGRESS_SECONDS = 0.2


class StreamTeacher:
    """Teaches the stages of an update, one after another, and measures every task after each.

    Args:
        job: What to teach.
        data: Tokenized rows.
        workers: The worker group that this process belongs to.
        device: Where the model lives.
        checkpoints: Where checkpoints go and come from.
    """

    def __init__(
        self,
        job: UpdateJob,
        data: PreparedData,
        workers: AnyWorkers,
        device: torch.device,
        checkpoints: CheckpointStore,
    ) -> None:
        self.job = job
        self.data = data
        self.workers = workers
        self.device = device
        self.checkpoints = checkpoints
        self.events = EventLog(job.folder, workers.rank)
        self.training = job.spec.training
        self.precision: Precision = resolve_precision(self.training.precision, device)
        self.stack = build_stack(job.spec.methods, job.spec.scenario, job.spec.model.kind)
        if self.stack.needs_float32:
            self.precision = "fp32"
        self.autocast = autocast(self.precision, device)
        self.generator = torch.Generator()
        self.scores: list[Scores] = []
        self.costs: dict[str, dict[str, float]] = {}
        self.baseline: Scores = {}
        self.learned: dict[str, LearnedAnswers] = {}
        self.held: dict[str, str] = {}
        self.before: dict[str, float] = {}
        self._reported_at = 0.0
        self.events.emit(WorkerStarted())
        with self._phase("load"):
            self.model = load_for_training(job.spec, workers, device, self.precision)
        self.router = RouterStatistics.empty(self.model.base_width)
        self.evaluator = make_evaluator(
            self.model,
            self.stack,
            job.labels,
            workers,
            self.autocast,
            job.spec.scenario != "task_incremental",
            job.spec.evaluation,
        )
        self.evaluator.held_out.update(data.held_out)
        self.instruments = Instruments(job, data, self.evaluator)
        self.search = StabilityDecay(job, self.stack, self.evaluator, workers, self.events)

    def run(self) -> None:
        """Teach every stage that is left, from the latest checkpoint if there is one."""
        folder = self.checkpoints.latest()
        saved = None if folder is None else read_checkpoint(folder, self.workers.rank)
        self._start_lineage(saved)
        done = 0 if saved is None else saved.state.stages_done
        if saved is not None:
            self.events.emit(Resumed(done, **asdict(saved.state.position)))
        for index, stage in enumerate(self.job.stages):
            if index >= done:
                middle = saved if index == done and saved and saved.state.in_stage else None
                self._teach(index, stage, middle)
        self.events.emit(Taught())

    def write(self, folder: Path) -> None:
        """Write what the workers know into the folder of a version to be.

        Every rank must call it: the methods' states are gathered from all of them, the first rank
        writes.
        """
        is_first = self.workers.rank == 0
        calibration = self.calibrate()
        with self._phase("instruments", self.job.new):
            findings = self.instruments.finish()
        learned = wholes(self.model.learned_state(), keep=is_first)
        if is_first:
            shutil.rmtree(folder, ignore_errors=True)
            write_weights(folder, self.model, learned)
        del learned
        own = self.stack.state_dicts()
        sharded = whole_states(self.model, self.stack, own, keep=is_first)
        everyone = self.workers.gather(own)
        if is_first:
            merged = {
                kind: method.merge_states([states[kind] for states in everyone])
                for kind, method in self.stack.methods.items()
            }
            for kind, tensors in sharded.items():
                merged[kind].tensors |= tensors
            write_states(folder, merged)
            write_router(folder, self.router)
            outcome = self._outcome(findings, calibration)
            put_on_disk(folder)  # it is not taught again, should the power fail
            write_outcome(folder.parent, outcome)
        self.workers.gather(None)  # nobody leaves before the first rank has written

    def _outcome(self, findings: Findings, calibration: Calibration) -> Outcome:
        return Outcome(
            scores=tuple(self.scores),
            costs=self.costs,
            before=self.before,
            columns=column_sizes(self.model, self.job.tasks),
            search=self.search.records,
            strengths=self.search.found,
            baseline=self.baseline,
            instruments=findings,
            right=tuple(self.instruments.right),
            learned=self.learned,
            held=self.held,
            calibration=calibration,
            precision=self.precision,
            base_sha256=base_hash(self.model),
            total_parameters=sum(p.numel() for p in self.model.parameters()),
        )

    def calibrate(self) -> Calibration:
        """The in-scope score that `accept_fraction` of all tasks' validation rows reach.

        Every rank must call it.
        """
        tasks, share = self.job.tasks, self.job.spec.routing.accept_fraction
        features = {task.id: self.evaluator.base_features(task.id) for task in tasks}
        router = self.router.fit(route_tasks(tasks))
        return calibrate(router, tasks, features, self.data.held_out, share)

    def _start_lineage(self, saved: Checkpoint | None) -> None:
        """Structure, weights and states as they were before the next stage."""
        for task in self.job.past:
            self.stack.expand(self.model, task)
        if self.job.parent is not None:
            read_weights(self.job.parent, self.model)
            self.router = read_router(self.job.parent)
            self._load_states(read_states(self.job.parent))
        self.before = held_sizes(self.model, self.stack, self.router)
        if self.job.parent is None:
            self.before["stored_bytes"] = 0.0  # a version of the base alone would keep nothing
        torch.manual_seed(derive_seed(self.training.seed, "foresee", self.job.num_past))
        self.stack.foresee(self.model, self.job.new)
        if saved is not None:
            self._restore(saved)

    def _load_states(self, states: Mapping[str, MethodState]) -> None:
        """Give each method its part of what the parent version knew; new methods start empty."""
        rank, world_size = self.workers.rank, self.workers.world_size
        known = {kind: state for kind, state in states.items() if kind in self.stack.methods}
        states = own_parts(self.model, self.stack, known)
        for kind, method in self.stack.methods.items():
            if kind in states:
                method.load_state_dict(method.shard_state(states[kind], rank, world_size))

    def _restore(self, saved: Checkpoint) -> None:
        done = saved.state.stages_done + saved.state.in_stage
        for stage in self.job.stages[:done]:
            self._expand(stage)
        restore_shards(saved, self.model)
        self.model.load_learned_state(under(saved.shared, "model"))
        self.stack.load_state_dicts(saved.methods)
        self.router = RouterStatistics.from_state(under(saved.shared, "router"))
        self.scores = list(saved.state.scores)
        self.costs = {task: dict(own) for task, own in saved.state.costs.items()}
        self.baseline = saved.state.baseline
        self.search.records = dict(saved.state.search)
        self.learned, self.held = dict(saved.state.learned), dict(saved.state.held)
        self.instruments.restore(saved.state.right, under(saved.shared, "instruments"))

    def _expand(self, stage: tuple[Task, ...]) -> None:
        for task in stage:
            torch.manual_seed(derive_seed(self.training.seed, "expand", task.id))
            self.stack.expand(self.model, task)

    def _teach(self, index: int, stage: tuple[Task, ...], saved: Checkpoint | None) -> None:
        """Teach one stage, from its start or from a checkpoint inside it."""
        if saved is None:
            self._expand(stage)
            if self.router.num_rows == 0:  # methods may choose which layers the base gives
                self.router = RouterStatistics.empty(self.model.base_width)
            seed = derive_seed(self.training.seed, "stage", stage[0].stage, self.workers.rank)
            torch.manual_seed(seed)
            self.generator.manual_seed(seed)
        ctx = self._context(stage)
        self.stack.activate(self.model, stage[-1].id)
        if saved is None and not ctx.seen and self.model.answers_every_task:
            self.baseline = self._measure(list(stage))
        self.events.emit(StageStarted(stage[0].stage, tuple(task.name for task in stage)))
        training = self.search.settle(ctx, self._rows(stage))
        for task in stage:
            if task.name in self.search.records:
                spent = self.search.seconds(task.name)
                self.costs.setdefault(task.name, {})["search_seconds"] = spent
        loop = StageLoop(ctx, self.stack, self._rows(stage), training, self.workers)
        with self._phase("train", stage):
            if saved is None:
                self.stack.begin_task(ctx)
            if self.stack.learns_by_gradient:
                self._learn(index, loop, saved)
            else:
                loop.run_pass()
        self._end_stage(index, stage, ctx)

    def _learn(self, index: int, loop: StageLoop, saved: Checkpoint | None) -> None:
        position = saved.state.position if saved else Position()
        loop.start(position)
        if saved is not None:
            assert loop.optimizer is not None, "start() made it"
            moments = under(saved.shared, "optimizer")
            loop.optimizer.load_state_dict(moments, saved.state.schedule)
            set_random_state(saved.own, self.generator)

        def after_step(following: Position, progress: Progress) -> None:
            self._report(loop.ctx.task, progress)
            if following.step_in_epoch == 0 and following.epoch < self.training.num_epochs:
                with self._phase("instruments", loop.ctx.tasks):
                    self.instruments.after_epoch(loop.ctx.tasks)
            every = self.training.checkpoint_every_steps
            if every is not None and loop.ctx.step % every == 0 and loop.ctx.step < loop.num_steps:
                self._save(index, following, loop)

        loop.run(position, after_step)

    def _end_stage(self, index: int, stage: tuple[Task, ...], ctx: TaskContext) -> None:
        with self._phase("end_task", stage):
            self.stack.end_task(ctx)
        with self._phase("router", stage):
            self._update_router(stage)
        seen = [*ctx.seen, *stage]
        with self._phase("evaluate", stage):
            by_name = self._measure(seen)
            router = self.router.fit(route_tasks(seen))
            share = self.job.spec.routing.accept_fraction
            self.learned |= self.evaluator.learned_answers(stage, seen, router, share)
            self.held = {t.name: pack_scores(self.evaluator.held[t.id].tolist()) for t in seen}
        self.scores.append(by_name)
        with self._phase("instruments", stage):
            self.instruments.after_stage(index)
        sizes = sizes_of(self.model, self.stack, self.router, self.workers)
        for task in stage:
            self.costs[task.name] |= sizes
        self.events.emit(
            StageDone(
                stage=stage[0].stage,
                tasks=tuple(task.name for task in stage),
                scores=by_name,
                costs={task.name: self.costs[task.name] for task in stage},
            )
        )
        self._save(index + 1, Position(), None)

    def _measure(self, seen: list[Task]) -> Scores:
        """Scores by task name: of the tasks seen, and of later ones where the same head answers."""
        measured = list(self.job.tasks) if self.model.answers_every_task else seen
        scores = self.evaluator.evaluate(measured, seen, self.router)
        return {task.name: scores[task.id].as_dict() for task in measured}

    def _update_router(self, stage: tuple[Task, ...]) -> None:
        """Add the stage's rows to the router's sums; every rank adds its shard."""
        tasks = self.job.tasks[: stage[-1].id + 1]
        num_classes = sum(len(task.class_ids) for task in tasks)
        fresh = RouterStatistics.empty(self.model.base_width, num_classes)
        even = self.model.is_sharded
        for batch in shard_batches(self._rows(stage), self.workers, self.device, even):
            with torch.no_grad(), self.autocast():
                features = self.model.base_features(batch.inputs)
            classes = route_classes(tasks, batch.targets, batch.task_ids)
            fresh.add(features.cpu(), classes.cpu(), num_classes)
        self.workers.sum(fresh.tensors())
        self.router.merge(fresh)

    def _rows(self, stage: tuple[Task, ...]) -> Any:
        return self.data.train[stage[0].stage]

    def _context(self, stage: tuple[Task, ...]) -> TaskContext:
        return stage_context(
            self.job, self.data, self.model, self.workers, self.generator, self.autocast, stage
        )

    def _save(self, stages_done: int, position: Position, loop: StageLoop | None) -> None:
        """Write a checkpoint: between stages (`loop` None) or inside one."""
        shared = {f"model/{name}": t for name, t in self.model.learned_state().items()}
        shared |= {f"router/{name}": t for name, t in self.router.state_dict().items()}
        shared |= {f"instruments/{name}": t for name, t in self.instruments.tensors().items()}
        schedule = 0
        if loop is not None and loop.optimizer is not None:
            moments, schedule = loop.optimizer.state_dict()
            shared |= {f"optimizer/{name}": t for name, t in moments.items()}
        states = self.stack.state_dicts()
        sharded = take_sharded(self.model, self.stack, shared, states)
        checkpoint = Checkpoint(
            state=RunState(
                stages_done=stages_done,
                in_stage=loop is not None,
                position=position,
                schedule=schedule,
                scores=tuple(self.scores),
                costs=self.costs,
                baseline=self.baseline,
                search=self.search.records,
                right=tuple(self.instruments.right),
                learned=self.learned,
                held=self.held,
                sharded=describe_shards(self.stack, sharded),
            ),
            shared=shared,
            own=random_state(self.generator),
            methods=states,
            sharded=sharded,
        )
        step = 0 if loop is None else loop.ctx.step
        name = f"stage_{stages_done:03d}_step_{step:07d}"
        self.checkpoints.save(
            name, lambda folder: write_checkpoint(checkpoint, folder, self.workers.rank)
        )

    def _report(self, task: Task, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._reported_at < PROGRESS_SECONDS and progress.step < progress.num_steps:
            return
        self._reported_at = now
        self.events.emit(StepTaken(task.name, **asdict(progress)))

    @contextmanager
    def _phase(self, name: str, stage: tuple[Task, ...] = ()) -> Iterator[None]:
        """Charge the time of a phase to the tasks of a stage, in equal parts."""
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        for key in [task.name for task in stage] or ["start"]:
            costs = self.costs.setdefault(key, {})
            label = f"{name}_seconds"
            costs[label] = costs.get(label, 0.0) + spent / max(1, len(stage))
