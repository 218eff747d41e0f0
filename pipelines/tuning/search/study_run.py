"""A study while it runs: which trial is next, what has ended, what is written."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.pages.words import percent
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tracking.tracker import Tracker
from ratchet.pipelines.tuning.page.files import PAGE_FILE, PICTURE_FILE, STUDY_FILE, write_study
from ratchet.pipelines.tuning.search.capacity import capacity_of_ray, num_own_workers
from ratchet.pipelines.tuning.search.prefix import idle_fields, shares_first_tasks
from ratchet.pipelines.tuning.search.sampler import Sampler
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.search.trial_run import (
    ACCURACY,
    OWN_DATA_FOLDER,
    PREFIXES_FOLDER,
    SETTINGS_FILE,
    STAGES_DONE,
    TrialBase,
    data_key,
    read_trial,
    read_trials,
    seeds_so_far,
    trial_folder,
    write_trial,
)
from ratchet.pipelines.tuning.search.warm_start import DONE_FILE, tried_first
from ratchet.pipelines.tuning.study import Study
from ratchet.pipelines.tuning.trial import (
    Report,
    SeedResult,
    Settings,
    Trial,
    read_settings,
    write_settings,
)
from ratchet.pipelines.update.plan import Plan
from ratchet.pipelines.update.ray_session import ray_session

CLOCK_FILE = "seconds.json"
WRITE_SECONDS = 20.0
ZERO_COPY = "RAY_ENABLE_ZERO_COPY_TORCH_TENSORS"
"""Ray's setting that leaves tensors where the object store keeps them, for a whole node."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Request:
    """What is asked for.

    Attributes:
        source: The spec as it was given.
        spec_name: The spec's file, as the user wrote it.
        home: Where state lives.
        address: A Ray cluster, or None for one of this process.
        must_exist: Whether only a study that was begun before may go on.
        changes: The changes to the spec that `source` holds, as `field=value`.
        verb: What runs an update of the spec: `run`, or `submit` to a service.
    """

    source: RawSpec
    spec_name: str
    home: Home
    address: str | None = None
    must_exist: bool = False
    changes: tuple[str, ...] = ()
    verb: str = "run"


@dataclass(frozen=True)
class Planned:
    """A study, ready to run.

    Attributes:
        name: Its name.
        request: What was asked for.
        tune: What is searched.
        plan: The update of the spec itself.
        folder: The study's folder.
    """

    name: str
    request: Request
    tune: TuneSpec
    plan: Plan
    folder: Path


class StudyRun:
    """Runs a study to its end, and keeps what ends on the way.

    All that it has to remember lies in the study's folder: a trial that has begun leaves its
    settings there, one that has ended what it found.

    Args:
        planned: The study.
        tracker: Where MLflow hears of it.
        say: Told of progress.
    """

    def __init__(self, planned: Planned, tracker: Tracker, say: Say) -> None:
        self.planned = planned
        self.tune, self.plan, self.folder = planned.tune, planned.plan, planned.folder
        self.tracker = tracker
        self.say = say
        ended, begun = read_trials(self.folder)
        self.trials = {trial.number: trial for trial in ended}
        self._begun = deque(sorted(begun.items()))
        first = tried_first(self.folder, self.tune, say)
        self._sampler = Sampler(self.tune, self._fast_fields(), first)
        self._sampler.know(ended, begun)
        self._before = _read_clock(self.folder)
        self._started = time.monotonic()
        self._written = 0.0

    def run(self) -> None:
        """Run what is left and write what was found."""
        if self.trials or self._begun:
            self.say(f"goes on: {len(self.trials)} trials ended before, none is repeated")
        for trial in self.trials.values():  # a driver that died may have left their traces
            self._settle(trial)
        num_left = self._sampler.size - len(self.trials)
        if num_left > 0 and not self._time_is_over():
            (self.folder / DONE_FILE).unlink(missing_ok=True)
            try:
                self._search(num_left)
            finally:
                self._write_clock()
        self._write()
        (self.folder / DONE_FILE).touch()
        for leftover in ("ray", PREFIXES_FOLDER):
            shutil.rmtree(self.folder / leftover, ignore_errors=True)
        for path in (STUDY_FILE, PAGE_FILE, PICTURE_FILE):
            self.tracker.log_file(self.folder / path)
        study = self.study()
        metrics = {"hypervolume": study.hypervolume, "num_trials": float(len(self.trials))}
        if study.chosen is not None:
            metrics |= study.chosen.trial.means()
        self.tracker.finish(metrics)

    def study(self) -> Study:
        """What is known so far."""
        return Study(
            name=self.planned.name,
            lineage=self.plan.job.spec.lineage,
            spec=self.planned.request.spec_name,
            changes=self.planned.request.changes,
            verb=self.planned.request.verb,
            tune=self.tune,
            trials=tuple(self.trials[number] for number in sorted(self.trials)),
            seconds=round(self._before + time.monotonic() - self._started, 3),
            warnings=tuple(self.plan.warnings),
        )

    def _search(self, num_left: int) -> None:
        from ratchet.pipelines.tuning.search.ray_search import scheduler_of, search
        from ratchet.pipelines.tuning.search.ray_watch import watch_ray

        scaling, address = self.plan.job.spec.scaling, self.planned.request.address
        os.environ[ZERO_COPY] = "1"
        own = scaling.model_copy(
            update={"num_workers": num_own_workers(self.tune, scaling, num_left)}
        )
        with ray_session(own, address):
            cpus = own.num_workers * own.cpus_per_worker
            capacity = capacity_of_ray(cpus if address is None else None)
            places = capacity.places(self.tune, scaling, num_left)
            if capacity.num_fitting(scaling) == 0:
                asked = ", ".join(f"{n} {v:g}" for n, v in capacity.share(scaling).items())
                self.say(
                    "warning: no machine of the cluster has room for a trial, whose workers ask "
                    f"for {asked} each: it waits until one joins that has"
                )
            shape = f"{num_left} trials left, {places.num_parallel} at a time"
            on_gpus = ", on GPUs" if "GPU" in capacity.share(scaling) else ""
            self.say(f"study {self.planned.name}: {shape}{on_gpus}")
            base = self._base()
            search(
                base,
                self._following,
                self._ended,
                places,
                num_left,
                self._seconds_left(),
                scheduler_of(self.tune.early_stopping, base, tuple(self.trials.values())),
                watch_ray(own=address is None),
            )

    def _base(self) -> TrialBase:
        spec = self.plan.job.spec
        return TrialBase(
            source=self.planned.request.source,
            job=self.plan.job,
            data=self.plan.data,
            data_key=data_key(spec),
            folder=self.folder,
            num_seeds=self.tune.num_seeds,
            num_tasks=self.tune.num_tasks,
            share_prefixes=shares_first_tasks(self.tune, self.plan.job),
        )

    def _following(self) -> tuple[int, Settings] | None:
        """What was begun before an interruption, then what the sampler chooses."""
        if self._begun:
            return self._begun.popleft()
        number = self._sampler.num_asked
        settings = self._sampler.ask()
        if settings is None:
            return None
        path = trial_folder(self.folder, number) / SETTINGS_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_settings(path, settings)
        return number, settings

    def _ended(self, number: int, last: Report, error: str | None) -> None:
        """Keep a trial that ended: as it wrote itself, or as what ended it; once."""
        if number in self.trials:
            return
        folder = trial_folder(self.folder, number)
        trial = read_trial(folder)
        if trial is None:
            if error is None and (self.tune.early_stopping is None or self._time_is_over()):
                return  # ended with the study's time: it goes on when there is more
            settings = read_settings(folder / SETTINGS_FILE)
            trial = _cut_short(number, settings, last, error, seeds_so_far(folder))
            write_trial(folder, trial)
        self.trials[number] = trial
        self._settle(trial)
        self._sampler.tell(trial)
        self._write_clock()
        self.say(f"{words_of(trial)} ({len(self.trials)} of {self._sampler.size})")
        if time.monotonic() - self._written > WRITE_SECONDS:
            self._write()

    def _write(self) -> None:
        write_study(self.study(), self.folder)
        self._written = time.monotonic()

    def _write_clock(self) -> None:
        write_atomically(self.folder / CLOCK_FILE, json.dumps(self.study().seconds))

    def _settle(self, trial: Trial) -> None:
        """Clear away what a trial needed while it ran, and let MLflow know it; once."""
        folder = trial_folder(self.folder, trial.number)
        for leftover in (*folder.glob("seed_*"), folder / OWN_DATA_FOLDER):
            shutil.rmtree(leftover, ignore_errors=True)
        name = f"trial_{trial.number:03d}"
        if self.tracker.knows(name):
            return
        self.tracker.task_started(name, {"status": trial.status, **trial.settings})
        status = "FINISHED" if trial.status == "done" else "FAILED"
        if trial.seeds and trial.seeds[0].search:
            decided = {task: asdict(own.decided) for task, own in trial.seeds[0].search.items()}
            self.tracker.log_params(name, {"decided": decided})
        whole = trial.status == "done"  # a part of the stream is not to be held against all of it
        means = trial.means()
        found = means if whole else {f"partial/{own}": value for own, value in means.items()}
        self.tracker.task_finished(name, found, status)

    def _seconds_left(self) -> float | None:
        if self.tune.max_seconds is None:
            return None
        spent = self._before + time.monotonic() - self._started
        return max(0.0, self.tune.max_seconds - spent)

    def _time_is_over(self) -> bool:
        return self._seconds_left() == 0.0

    def _fast_fields(self) -> Sequence[str]:
        """What a grid varies fastest: all that the first task depends on."""
        idle = idle_fields(self.plan.job.spec)
        return [name for name in self.tune.parameters if name not in idle]


def words_of(trial: Trial) -> str:
    """A trial in a line."""
    settings = ", ".join(f"{name}={value}" for name, value in trial.settings.items())
    if trial.error is not None:
        return f"trial {trial.number} {trial.status}: {settings}: {trial.error['message']}"
    found = {name: trial.mean(name) for name in ("learning_accuracy", "forgetting")}
    said = [f"{n.replace('_', ' ')} {percent(v)}" for n, v in found.items() if v is not None]
    seconds = trial.mean("seconds")
    said += [] if seconds is None else [f"{seconds:.0f} s"]
    return f"trial {trial.number} {trial.status}: {settings}: {', '.join(said)}"


def _cut_short(
    number: int,
    settings: Settings,
    last: Report,
    error: str | None,
    seeds: tuple[SeedResult, ...],
) -> Trial:
    """A trial that did not write its own end, and what its seeds had measured by then."""
    if error is not None:
        return Trial(number, settings, "failed", seeds, {"type": "Crash", "message": error})
    message = (
        f"ended early after {last.get(STAGES_DONE, 0)} stages, "
        f"at an average accuracy of {last.get(ACCURACY, float('nan')):.1%}"
    )
    return Trial(number, settings, "stopped", seeds, {"type": "EarlyStopping", "message": message})


def _read_clock(folder: Path) -> float:
    path = folder / CLOCK_FILE
    return float(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else 0.0
