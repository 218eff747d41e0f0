"""One seed of a trial: taught and measured like any update, and neither judged nor registered."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

from ratchet.pipelines.data.prepared import PreparedData, train_path
from ratchet.pipelines.data.streamed import StreamedRows
from ratchet.pipelines.evaluation.costs import split_costs
from ratchet.pipelines.evaluation.history import History, main_measure
from ratchet.pipelines.evaluation.scores import Scores
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.models.precision import set_threads
from ratchet.pipelines.pages.search_record import SearchRecord
from ratchet.pipelines.training.allocator import keep_freed_memory
from ratchet.pipelines.training.checkpoint import FolderCheckpoints
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.outcome import has_outcome, read_outcome
from ratchet.pipelines.training.stream import StreamTeacher
from ratchet.pipelines.training.trainer import CHECKPOINTS_FOLDER, check_outcome, teach_on_ray
from ratchet.pipelines.training.workers import SingleWorker
from ratchet.pipelines.tuning.search.capacity import given_device
from ratchet.pipelines.tuning.search.prefix import PrefixShelf, first_task_digest
from ratchet.pipelines.tuning.trial import SeedResult
from ratchet.pipelines.update.history import lineage_history

OnStage = Callable[[int, float], None]
"""Told after each stage: how many are done, and the mean accuracy over the tasks seen."""

FIRST_STAGE = "stage_001_step_0000000"
"""The checkpoint that is written when the first stage has ended."""


@dataclass(frozen=True)
class Measured:
    """What a seed's teacher has measured so far; see `Outcome`."""

    scores: tuple[Scores, ...]
    baseline: Scores
    costs: Mapping[str, Mapping[str, float]]
    search: Mapping[str, SearchRecord]


class TrialCheckpoints(FolderCheckpoints):
    """Checkpoints of a trial, which starts where another one has already taught the first task.

    Args:
        folder: The trial's own.
        shelf: First tasks already taught, or None where nothing is shared.
        digest: The name of this trial's first task on the shelf.
        after_stage: Called with the number of stages done.
    """

    def __init__(
        self,
        folder: Path,
        shelf: PrefixShelf | None,
        digest: str,
        after_stage: Callable[[int], None],
    ) -> None:
        super().__init__(folder)
        self.shelf = shelf
        self.digest = digest
        self.after_stage = after_stage

    def take_first_task(self) -> bool:
        """Go on from the first task as another trial taught it, where this one has not begun.

        Returns:
            Whether there was one.
        """
        if self.shelf is None or self.latest() is not None:
            return False
        return self.shelf.take(self.digest, self.folder / FIRST_STAGE)

    def save(self, name: str, write: Callable[[Path], None]) -> None:
        """Keep a checkpoint, share it if it ends the first task, and say which stage ended."""
        super().save(name, write)
        if name == FIRST_STAGE and self.shelf is not None:
            self.shelf.put(self.digest, self.folder / name)
        if name.endswith("_step_0000000"):
            self.after_stage(int(name.split("_")[1]))


def teach_seed(
    job: UpdateJob, data: PreparedData, shelf: PrefixShelf | None, on_stage: OnStage
) -> SeedResult:
    """Teach a stream and measure it; interrupted, the same call goes on from its checkpoint.

    One worker teaches in this process, more in a worker group of their own, whose stages are told
    of only when all have ended.

    Args:
        job: What to teach; its folder is this seed's own. Its checkpoints are of no use once the
            result is kept.
        data: Tokenized rows.
        shelf: Where the first task may lie already, or None.
        on_stage: Told of each stage.

    Raises:
        RatchetError: Whatever went wrong in training.
    """
    if job.spec.scaling.num_workers > 1:
        found = _taught_by_group(job, data)
        shared = 0.0
    else:
        found, shared = _taught_here(job, data, shelf, on_stage)
    return _result(job, found, shared)


def _taught_here(
    job: UpdateJob, data: PreparedData, shelf: PrefixShelf | None, on_stage: OnStage
) -> tuple[Measured, float]:
    """What a teacher in this process found, and the seconds of what it did not have to teach."""
    set_threads(job.spec.scaling.cpus_per_worker)
    keep_freed_memory()
    teacher: StreamTeacher | None = None

    def after_stage(num_done: int) -> None:
        assert teacher is not None, "it is teaching"
        _keep_so_far(job, num_done, teacher)
        on_stage(num_done, _average(job, teacher.scores))

    store = TrialCheckpoints(
        job.folder / CHECKPOINTS_FOLDER,
        shelf,
        first_task_digest(job.spec),
        after_stage,
    )
    teacher = StreamTeacher(job, data, SingleWorker(), given_device(), store)
    if store.take_first_task():
        (job.folder / SHARED_MARK).touch()
    teacher.run()
    return _found(job, teacher)


def _found(job: UpdateJob, teacher: StreamTeacher) -> tuple[Measured, float]:
    """What a teacher knows, and the seconds of what it did not have to teach."""
    first = job.stages[0] if job.stages else ()
    was_shared = (job.folder / SHARED_MARK).exists()  # also before an interruption
    shared = sum(_seconds(teacher.costs[task.name]) for task in first) if was_shared else 0.0
    scores = tuple(teacher.scores)
    return Measured(scores, teacher.baseline, teacher.costs, teacher.search.records), shared


SHARED_MARK = "shared_first_task"
SO_FAR_FILE = "so_far.json"
"""What a seed has measured while it is taught: a `SeedResult` over the tasks taught so far."""


def _keep_so_far(job: UpdateJob, num_done: int, teacher: StreamTeacher) -> None:
    """Write what is known after a stage, for a trial that may be ended from outside."""
    taught = cut_to(job, sum(len(stage) for stage in job.stages[:num_done]))
    found, shared = _found(job, teacher)
    result = _result(taught, found, shared)
    write_atomically(job.folder / SO_FAR_FILE, json.dumps(result.kept()))


def _taught_by_group(job: UpdateJob, data: PreparedData) -> Measured:
    if not has_outcome(job.folder):
        for stage, rows in data.train.items():
            if isinstance(rows, StreamedRows):  # the group looks for them in the run's own folder
                place = train_path(job.folder, stage)
                place.parent.mkdir(parents=True, exist_ok=True)
                if not place.exists():
                    place.symlink_to(rows.folder, target_is_directory=True)
        teach_on_ray(job, data)
    check_outcome(job.folder)
    outcome = read_outcome(job.folder)
    return Measured(outcome.scores, outcome.baseline, outcome.costs, outcome.search)


def _result(job: UpdateJob, found: Measured, shared: float) -> SeedResult:
    history = since_champion(job, lineage_history(job, found.scores, found.baseline))
    reported = main_measure(job.spec.scenario)
    chosen_by = reported.replace("test", "validation")
    return SeedResult(
        seed=job.spec.training.seed,
        metrics=trial_metrics(history, chosen_by, job.num_past),
        test_metrics=trial_metrics(history, reported, job.num_past),
        accuracy_matrix=tuple(map(tuple, history.matrix(chosen_by) or ())),
        tasks=history.tasks,
        seconds=round(_taught_seconds(found.costs) - shared, 3),
        shared_seconds=round(shared, 3),
        num_past=job.num_past,
        search=dict(found.search),
    )


def since_champion(job: UpdateJob, history: History) -> History:
    """The part of a lineage's history that an update has a say in: from its champion's row on.

    What the lineage forgot before is nobody's doing here. Without a champion it is the whole.
    """
    before = job.new[0].stage - 1
    if before < 0:
        return history
    stages = tuple(max(0, stage - before) for stage in history.stages)
    return replace(history, rows=history.rows[before:], stages=stages)


def trial_metrics(history: History, measure: str, num_past: int) -> dict[str, float | None]:
    """Every metric of one measure, learning accuracy over the tasks that the update teaches."""
    metrics = history.metrics(measure)
    matrix = history.matrix(measure)
    if matrix is not None and num_past:
        places = enumerate(history.stages[num_past:], start=num_past)
        learned = [value for task, stage in places if (value := matrix[stage][task]) is not None]
        metrics["learning_accuracy"] = fmean(learned) if learned else None
    return metrics


def _taught_seconds(costs: Mapping[str, Mapping[str, float]]) -> float:
    """Seconds of teaching and measuring; a worker's own start is not the trial's."""
    return sum(_seconds(own) for name, own in costs.items() if name != "start")


def _seconds(costs: Mapping[str, float]) -> float:
    return sum(split_costs(dict(costs))[0].values())


def _average(job: UpdateJob, scores: Sequence[Scores]) -> float:
    """Mean validation accuracy over the tasks seen, after the last stage that was taught."""
    measure = main_measure(job.spec.scenario).replace("test", "validation")
    last = scores[-1]
    taught = [task for stage in job.stages[: len(scores)] for task in stage]
    seen = [task.name for task in (*job.past, *taught)]
    return sum(float(last[name][measure] or 0.0) for name in seen) / len(seen)


def cut_to(job: UpdateJob, num_tasks: int | None) -> UpdateJob:
    """The job with only the first so many new tasks of its stream."""
    if num_tasks is None:
        return job
    return replace(job, tasks=job.tasks[: job.num_past + num_tasks])
