"""A study from a spec: checked, planned, run."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import yaml

from pipelines.config import UpdateSpec, spec_as_dict
from pipelines.errors import NotFoundError, Problem, SpecError
from pipelines.lock import exclusive
from pipelines.models.load import load_tokenizer
from pipelines.plan import (
    Lineage,
    Plan,
    check_context,
    check_continues,
    check_joint,
    check_memory,
    make_plan,
    open_lineage,
    run_digest,
)
from pipelines.run import Home
from pipelines.stale_run import data_digest
from pipelines.tracking import Tracker
from pipelines.tune_spec import TuneSpec
from pipelines.tuning.decay import decay_settings
from pipelines.tuning.seed_run import cut_to
from pipelines.tuning.space import RawSpec, check_space
from pipelines.tuning.study import Study
from pipelines.tuning.study_run import Planned, Request, Say, StudyRun


def run_study(request: Request, say: Say) -> tuple[Study, Path]:
    """Search the space of a spec; interrupted, the same call goes on and repeats no trial.

    Args:
        request: What is asked for.
        say: Told of progress, a line each.

    Returns:
        The study and its folder, which holds `study.json`, `study.html` and `front.png`.

    Raises:
        SpecError: There is no `tune` section, or something is wrong with the space.
        NotFoundError: Only a study that was begun may go on, and there is none.
        BusyError: Another process runs this study.
        RatchetError: What is wrong with the update itself.
    """
    spec = request.source.with_settings({})
    tune = _checked(request.source, spec)
    registry = request.home.registry
    champion = registry.champion(spec.lineage)
    lineage = open_lineage(None if champion is None else registry.path(spec.lineage, champion))
    asked = digest_of(tune, run_digest(spec, lineage))
    place = studies_folder(request.home, spec.lineage)
    place.mkdir(parents=True, exist_ok=True)
    with exclusive(place / f".{asked}.lock", f"this study of {spec.lineage}"):
        plan = make_plan(spec, lineage, load_tokenizer(spec.model), place / f".{asked}.plan")
        _check_on_rows(request.source, tune, plan, lineage)
        # Other rows make another study: its trials could not be held against these.
        name = hashlib.sha256(f"{asked}{data_digest(plan)}".encode()).hexdigest()[:12]
        folder = place / name
        if request.must_exist and not folder.is_dir():
            raise NotFoundError(
                f"--resume: no study of this spec was begun ({folder}); start one without it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        for warning in plan.warnings:
            say(f"warning: {warning}")
        planned = Planned(name, request, tune, plan, folder)
        with Tracker(folder, request.home.tracking_uri) as tracker:
            _start_tracking(tracker, request, spec, name)
            study_run = StudyRun(planned, tracker, say)
            study_run.run()
        shutil.rmtree(plan.job.folder, ignore_errors=True)
    return study_run.study(), folder


def studies_folder(home: Home, lineage: str) -> Path:
    """Where the studies of a lineage lie."""
    return home.folder / "studies" / lineage


def digest_of(tune: TuneSpec, update: str) -> str:
    """A name for what is asked, which the same study has again.

    The budget and the rule of choice are left out: a study may go on with more trials.

    Args:
        tune: What is searched, and how.
        update: The digest of the update.
    """
    aside = {"num_trials", "max_seconds", "num_parallel", "choose"}
    text = json.dumps([update, tune.model_dump(mode="json", exclude=aside)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _checked(source: RawSpec, spec: UpdateSpec) -> TuneSpec:
    """The `tune` section, once every end of every range has been tried on the spec.

    Raises:
        SpecError: With everything that is wrong.
    """
    tune = spec.tune
    if tune is None:
        hint = "Add one: tune: {parameters: {training.learning_rate: {log: [1.0e-5, 1.0e-3]}}}"
        raise SpecError([Problem("tune", "the spec says nothing about what to search", hint=hint)])
    check_space(source, tune.parameters)
    if tune.strategy == "stability_decay":
        source.with_settings(decay_settings(tune))
    if spec.joint:
        message = "tasks learned at once have neither plasticity nor stability to trade"
        raise SpecError([Problem("joint", message, True, "Remove it to tune")])
    if tune.warm_start and tune.algorithm == "grid":
        message = "a grid has its own order, and tries every point anyway"
        raise SpecError([Problem("tune.warm_start", message, True, "Remove it, or use tpe")])
    if tune.early_stopping and spec.scaling.num_workers > 1:
        message = "a trial with a worker group reports only at its end"
        hint = "Remove it, or set scaling.num_workers to 1"
        raise SpecError([Problem("tune.early_stopping", message, tune.early_stopping, hint)])
    return tune


def _check_on_rows(source: RawSpec, tune: TuneSpec, plan: Plan, lineage: Lineage) -> None:
    """What only the rows and the lineage can tell, before the first trial.

    Raises:
        SpecError: With everything that is wrong.
    """
    tasks = cut_to(plan.job, tune.num_tasks).tasks
    if "stability" in tune.objectives and len({task.stage for task in tasks}) < 2:
        message = "the lineage has one task, and nothing that could be forgotten"
        hint = "Add a task, or set tune.objectives: [plasticity]"
        raise SpecError([Problem("tune.objectives", message, list(tune.objectives), hint)])

    def check(spec: UpdateSpec) -> None:
        check_joint(spec)
        check_continues(spec, lineage)
        check_context(spec)
        check_memory(spec, tasks)

    check_space(source, tune.parameters, check)


def _start_tracking(tracker: Tracker, request: Request, spec: UpdateSpec, name: str) -> None:
    raw = spec_as_dict(spec)
    text = yaml.safe_dump(dict(raw), sort_keys=False)
    tracker.start(spec.lineage, f"study {name}", raw, text, request.source.folder, send=False)
    tracker.set_tags({"ratchet.study": name})
