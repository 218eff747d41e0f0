"""Trials on Ray Tune: warm workers, as many at a time as fit, told apart by the study's numbers."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Callable, Sequence
from multiprocessing.pool import AsyncResult, ThreadPool
from types import SimpleNamespace
from typing import Any

from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.tuning.search.capacity import Places
from ratchet.pipelines.tuning.search.early_stopping import first_comparison, reports_of
from ratchet.pipelines.tuning.search.ray_watch import LOOK_SECONDS, RayWatch
from ratchet.pipelines.tuning.search.trial_run import (
    ACCURACY,
    STAGES_DONE,
    TrialBase,
    columns_seen,
    num_stages,
    run_trial,
)
from ratchet.pipelines.tuning.trial import Report, Settings, Trial

RAY_TUNE_SETTINGS = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # an interrupt ends the study here, not inside Ray Tune
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
}
LEAVE_SECONDS = 3.0
"""How long the search has to notice that nobody waits for it any more."""

Next = Callable[[], tuple[int, Settings] | None]
"""Number and settings of the next trial, or None when there is none."""

Ended = Callable[[int, Report, str | None], None]
"""Told of a trial's number, its last report, and what ended it if it did not end by itself."""


def search(
    base: TrialBase,
    following: Next,
    ended: Ended,
    places: Places,
    num_left: int,
    max_seconds: float | None,
    scheduler: TrialScheduler,
    watch: RayWatch,
) -> None:
    """Run trials until there are no more, or the time is over.

    Ray must be initialized. What a trial found it writes itself; nothing that Ray Tune keeps is
    needed afterwards.

    Args:
        base: What all trials share; it goes to the object store once.
        following: Asked for the next trial.
        ended: Told of each trial that has ended.
        places: Trials at a time, and what each is given.
        num_left: Trials at most.
        max_seconds: Time at most, or None; trials that run then are ended and stay unfinished.
        scheduler: Says which trials are stopped early.
        watch: Tells when Ray is lost.

    Raises:
        RatchetError: Ray is lost; trials that ran stay unfinished.
    """
    os.environ.update({k: v for k, v in RAY_TUNE_SETTINGS.items() if k not in os.environ})
    # They miss files that are not asked for, and find a busy machine slow.
    for name in ("analysis.experiment_analysis", "utils.util"):
        logging.getLogger(f"ray.tune.{name}").setLevel(logging.ERROR)
    config = TuneConfig(
        search_alg=_Numbered(following),
        scheduler=scheduler,
        num_samples=num_left,
        max_concurrent_trials=places.num_parallel,
        time_budget_s=max_seconds,
        reuse_actors=True,
        trial_name_creator=_name,
        trial_dirname_creator=_name,
    )
    tuner = _tuner(base, places, config, _Settling(ended, watch))
    # Ray Tune asks Ray's head for its resources, and would wait there until Ray kills the process.
    with ThreadPool(1) as pool:
        searching = pool.apply_async(tuner.fit)
        try:
            _wait(searching, watch)
        finally:
            watch.end()
            # Cut off inside a library's C++ by the end of the process, the thread would abort it.
            searching.wait(LEAVE_SECONDS)


def _tuner(base: TrialBase, places: Places, config: TuneConfig, callback: Callback) -> tune.Tuner:
    resources = {name.lower(): amount for name, amount in places.resources.items()}
    return tune.Tuner(
        tune.with_resources(tune.with_parameters(run_trial, base=base), resources),
        tune_config=config,
        run_config=RunConfig(
            name="ray",
            storage_path=str(base.folder),
            failure_config=FailureConfig(max_failures=1),
            callbacks=[callback],
            verbose=0,
        ),
    )


def _wait(searching: AsyncResult[Any], watch: RayWatch) -> None:
    while True:
        try:
            searching.get(LOOK_SECONDS)
        except multiprocessing.TimeoutError:
            watch.check()
        else:
            return


class _Forgotten:
    """What Ray Tune may pickle and never needs again: a study goes on from its trials."""

    def __getstate__(self) -> dict[str, object]:
        return {}


class _Numbered(_Forgotten, Searcher):
    """Asks the study for the next trial."""

    def __init__(self, following: Next) -> None:
        super().__init__()
        self._following = following

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        return True

    def suggest(self, trial_id: str) -> JsonObject | None:
        found = self._following()
        if found is None:
            return Searcher.FINISHED  # pyright: ignore[reportReturnType] - Ray's own convention
        number, settings = found
        return {"number": number, "settings": dict(settings)}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Nothing: the callback settles a trial, with what ended it."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: a study goes on from its trials."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


class _Settling(_Forgotten, Callback):
    """Hands on what Ray Tune says of a trial's end, unless it is Ray's own end."""

    def __init__(self, ended: Ended, watch: RayWatch) -> None:
        self._ended = ended
        self._watch = watch

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._ended(trial.config["number"], trial.last_result or {}, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._watch.make_sure()  # a trial is not to blame for the Ray under it
        self._ended(trial.config["number"], trial.last_result or {}, _last_line(trial))


def _last_line(trial: Any) -> str:
    """What ended a worker, from the end of what Ray Tune says of it."""
    said = str(trial.get_error() or "")  # None, where the worker died before it could be asked
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1] if lines else "the worker ended without a word"


def scheduler_of(
    early_stopping: str | None, base: TrialBase, trials: Sequence[Trial]
) -> TrialScheduler:
    """What stops trials early.

    Args:
        early_stopping: `asha`, or None.
        base: What all trials share.
        trials: Those that ended before this process began; later ones are held against them too.
    """
    if early_stopping is None:
        return FIFOScheduler()
    stages = num_stages(base)
    scheduler = ASHAScheduler(
        time_attr=STAGES_DONE,
        metric=ACCURACY,
        mode="max",
        max_t=stages + 2,  # beyond the last report: a trial that gets there ends by itself
        grace_period=first_comparison(stages),
        reduction_factor=2,
    )
    for trial in trials:
        _tell_again(scheduler, f"ended_{trial.number}", reports_of(trial, columns_seen(base)))
    return scheduler


def _tell_again(
    scheduler: ASHAScheduler, trial_id: str, reports: Sequence[tuple[int, float]]
) -> None:
    """Let a scheduler hear of a trial that it has not seen; it only asks for the trial's id."""
    trial: Any = SimpleNamespace(trial_id=trial_id)
    nobody: Any = None
    scheduler.on_trial_add(nobody, trial)
    for num_done, accuracy in reports:
        scheduler.on_trial_result(nobody, trial, {STAGES_DONE: num_done, ACCURACY: accuracy})
    scheduler.on_trial_remove(nobody, trial)


def _name(trial: Any) -> str:
    return f"trial_{trial.config['number']:04d}"
