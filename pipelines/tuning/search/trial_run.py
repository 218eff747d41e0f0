"""What a warm worker of a study runs: trial after trial, each over its seeds."""

from __future__ import annotations

import gc
import json
import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Any

from ratchet.pipelines.data.prepared import PreparedData
from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.json_value import Json
from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.quiet import quiet_libraries
from ratchet.pipelines.spec.methods import head_layout
from ratchet.pipelines.training.allocator import give_freed_memory_back
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.trainer import CHECKPOINTS_FOLDER
from ratchet.pipelines.tuning.search.early_stopping import stages_of
from ratchet.pipelines.tuning.search.prefix import PrefixShelf
from ratchet.pipelines.tuning.search.seed_run import SO_FAR_FILE, cut_to, teach_seed
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.trial import SeedResult, Settings, Status, Trial, read_settings
from ratchet.pipelines.update.checks import check_joint, check_memory
from ratchet.pipelines.update.plan import make_plan
from ratchet.pipelines.update.start import open_start

TRIALS_FOLDER, PREFIXES_FOLDER = "trials", "prefixes"
OWN_DATA_FOLDER = "own_data"
SETTINGS_FILE, TRIAL_FILE, RESULT_FILE = "settings.json", "trial.json", "result.json"
STAGES_DONE, ACCURACY = "stages_done", "average_accuracy"
"""What a worker reports after each stage of a trial's first seed, and once more at its end."""


@dataclass(frozen=True)
class TrialBase:
    """What all trials of a study start from; it lies in the object store once a node.

    Attributes:
        source: The spec as it was given.
        job: The update of the spec itself, planned.
        data: Its rows, tokenized; the tensors are the store's own memory and cannot be written.
        data_key: What the rows depend on; a trial with another key reads its own.
        folder: The study's folder.
        num_seeds: Runs of each trial.
        num_tasks: Tasks that the study looks at, None for all.
        share_prefixes: Whether a first task is taught once for all that agree on it.
    """

    source: RawSpec
    job: UpdateJob
    data: PreparedData
    data_key: str
    folder: Path
    num_seeds: int
    num_tasks: int | None
    share_prefixes: bool


def run_trial(config: Mapping[str, Json], base: TrialBase) -> None:
    """Run a trial to its end and write what it found; the function that Ray Tune calls.

    What goes wrong in training is a result: the trial is written as failed. Anything else ends the
    worker, and the study tries the trial once more.

    Args:
        config: `number` and `settings` of the trial.
        base: What all trials share.
    """
    from ray import tune

    quiet_libraries()
    number, settings = config["number"], config["settings"]
    assert isinstance(number, int), "the search numbers its trials"
    assert isinstance(settings, Mapping), "the sampler chose them"
    folder = trial_folder(base.folder, number)

    def report(num_done: int, accuracy: float) -> None:
        if base.num_seeds > 1 or num_done < num_stages(base):  # else it has ended, and is written
            tune.report({STAGES_DONE: num_done, ACCURACY: accuracy})

    trial = read_trial(folder) or taught_trial(number, settings, base, report)
    write_trial(folder, trial)
    last = trial.mean(ACCURACY)
    tune.report({STAGES_DONE: num_stages(base) + 1, ACCURACY: math.nan if last is None else last})


def num_stages(base: TrialBase) -> int:
    """Stages of one seed of a trial."""
    return len(cut_to(base.job, base.num_tasks).stages)


def columns_seen(base: TrialBase) -> list[int]:
    """Columns of a trial's accuracy matrix that are of tasks seen, after each stage."""
    job = cut_to(base.job, base.num_tasks)
    return [job.num_past + taught for taught in accumulate(len(stage) for stage in job.stages)]


def taught_trial(number: int, settings: Settings, base: TrialBase, report: Any) -> Trial:
    """A trial, taught over its seeds; those that ended before an interruption are not repeated.

    Args:
        number: Its number.
        settings: Values by field.
        base: What all trials share.
        report: Told after each stage of the first seed how many are done and how well it stands.
    """
    seeds: list[SeedResult] = []
    status: Status = "done"
    error = None
    folder = trial_folder(base.folder, number)
    try:
        job, data = _job(settings, base, folder)
        shelf = PrefixShelf(base.folder / PREFIXES_FOLDER) if base.share_prefixes else None
        for place in range(base.num_seeds):
            own = _with_seed(job, place, folder)
            # Later seeds begin again with few tasks: their rows would be held against whole ones.
            on_stage = report if place == 0 else lambda *_: None
            _report_again(own.folder, base, on_stage)
            _forget_models()
            seeds.append(_known_or_taught(own, data, shelf, on_stage))
    except RatchetError as problem:
        status, error = "failed", {"type": type(problem).__name__, "message": str(problem)}
        seeds = list(seeds_so_far(folder))
    _forget_models()
    return Trial(number, dict(settings), status, tuple(seeds), error)


def _report_again(folder: Path, base: TrialBase, report: Any) -> None:
    """Report the stages that a seed was taught before an interruption.

    Each is held against what others had after as many; the next stage's value would be otherwise.
    """
    path = folder / SO_FAR_FILE
    if path.is_file():
        for num_done, accuracy in stages_of(SeedResult.read(path), columns_seen(base)):
            report(num_done, accuracy)


def _forget_models() -> None:
    """Free what was taught before in this worker.

    A taught model is a cycle (its hooks are bound to it). Left to Python, each trial's model,
    optimizer and method states stay until it next looks at its oldest objects: a worker was seen to
    grow by 350 MB a trial, and by 100 MB still through the holes that freed models leave.
    """
    gc.collect()
    give_freed_memory_back()


def _job(settings: Settings, base: TrialBase, folder: Path) -> tuple[UpdateJob, PreparedData]:
    """The update of a trial: over the study's rows, or over its own where its settings ask."""
    spec = base.source.with_settings(settings)
    if data_key(spec) != base.data_key:
        lineage = open_start(base.job.parent)
        plan = make_plan(spec, lineage, load_tokenizer(spec.model), folder / OWN_DATA_FOLDER)
        return cut_to(plan.job, base.num_tasks), plan.data
    job = cut_to(replace(base.job, spec=spec), base.num_tasks)
    check_joint(spec)
    check_memory(spec, job.tasks)
    return job, base.data


def data_key(spec: Any) -> str:
    """What the rows of an update depend on: where they lie, how they are cut and tokenized."""
    dumped = spec.model_dump(mode="json", include={"tasks", "stream", "columns", "data", "model"})
    layout = head_layout(spec.methods, spec.scenario)
    return json.dumps([dumped, spec.training.max_length, spec.joint, layout], sort_keys=True)


def _with_seed(job: UpdateJob, place: int, folder: Path) -> UpdateJob:
    """The job of a trial's `place`-th seed, counted on from the spec's, in a folder of its own."""
    seed = job.spec.training.seed + place
    training = job.spec.training.model_copy(update={"seed": seed})
    spec = job.spec.model_copy(update={"training": training})
    return replace(job, spec=spec, folder=folder / f"seed_{seed}")


def _known_or_taught(
    job: UpdateJob, data: PreparedData, shelf: PrefixShelf | None, on_stage: Any
) -> SeedResult:
    path = job.folder / RESULT_FILE
    if path.is_file():
        result = SeedResult.read(path)
    else:
        job.folder.mkdir(parents=True, exist_ok=True)
        result = teach_seed(job, data, shelf, on_stage)
        write_atomically(path, json.dumps(result.kept()))
    # Only now: a worker that dies meanwhile leaves half of them, which nobody could go on from.
    shutil.rmtree(job.folder / CHECKPOINTS_FOLDER, ignore_errors=True)
    return result


def seeds_so_far(folder: Path) -> tuple[SeedResult, ...]:
    """What the seeds of a trial that did not write its own end measured, from the trial's folder.

    Those that ended; where none did, the one that had begun, over the tasks it was taught so far.
    """
    paths = [*folder.glob(f"seed_*/{RESULT_FILE}")] or [*folder.glob(f"seed_*/{SO_FAR_FILE}")]
    return tuple(sorted(map(SeedResult.read, paths), key=lambda own: own.seed))


def trial_folder(folder: Path, number: int) -> Path:
    """Where a trial lies in its study's folder."""
    return folder / TRIALS_FOLDER / f"{number:04d}"


def write_trial(folder: Path, trial: Trial) -> None:
    """Keep a trial that has ended, in one step."""
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / TRIAL_FILE, json.dumps(trial.kept()))


def read_trial(folder: Path) -> Trial | None:
    """A trial as it was written at its end, or None where it has not ended."""
    path = folder / TRIAL_FILE
    return Trial.read(path) if path.is_file() else None


def read_trials(folder: Path) -> tuple[list[Trial], dict[int, Settings]]:
    """The trials of a study that have ended, and the settings of those that have only begun."""
    ended, begun = [], {}
    for own in sorted((folder / TRIALS_FOLDER).glob("[0-9]*")):
        trial = read_trial(own)
        if trial is not None:
            ended.append(trial)
        elif (own / SETTINGS_FILE).is_file():
            begun[int(own.name)] = read_settings(own / SETTINGS_FILE)
    return ended, begun
