"""A study from a spec: checked, planned, run."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ratchet.pipelines.data.segments import is_raw
from ratchet.pipelines.errors import NotFoundError, Problem, SpecError
from ratchet.pipelines.files.lock import exclusive
from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.spec.problems import parameter_path
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.spec.update_spec import UpdateSpec, spec_as_dict, spec_as_yaml
from ratchet.pipelines.tracking.tracker import Tracker
from ratchet.pipelines.tuning.promotion import promoted_study
from ratchet.pipelines.tuning.search.decay import decay_settings
from ratchet.pipelines.tuning.search.early_stopping import warnings_of
from ratchet.pipelines.tuning.search.grid import check_grid, cut_warnings
from ratchet.pipelines.tuning.search.seed_run import cut_to
from ratchet.pipelines.tuning.search.space import RawSpec, Witness, check_witnesses, witnesses
from ratchet.pipelines.tuning.search.study_run import Planned, Request, Say, StudyRun
from ratchet.pipelines.tuning.study import Study
from ratchet.pipelines.tuning.study_name import study_name_of
from ratchet.pipelines.update.checks import (
    check_context,
    check_continues,
    check_joint,
    check_memory,
)
from ratchet.pipelines.update.plan import Plan, make_plan
from ratchet.pipelines.update.stale import data_digest
from ratchet.pipelines.update.start import Start, open_start


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
    spec = request.source.spec
    tried = _tried(request.source)
    place = studies_folder(request.home, spec.lineage)
    place.mkdir(parents=True, exist_ok=True)
    promoted = promoted_study(place, spec, request.home)
    champion = request.home.registry.champion(spec.lineage)
    found = None
    if promoted is not None:  # what it found is the champion since: nothing else is asked now
        found = _studied(request, tried, promoted.start, say, promoted.folder)
    found = found or _studied(request, tried, champion, say)
    assert found is not None, "any folder would do"
    return found


def _studied(
    request: Request,
    tried: Sequence[Witness],
    start: int | None,
    say: Say,
    only: Path | None = None,
) -> tuple[Study, Path] | None:
    """Run the study from a version on; None where it is not the one in the folder `only`.

    Raises:
        RatchetError: As `run_study`.
    """
    spec, registry = request.source.spec, request.home.registry
    assert spec.tune is not None, "it was checked"
    begin = open_start(None if start is None else registry.fetched(spec.lineage, start))
    study_name = study_name_of(spec, start)
    place = studies_folder(request.home, spec.lineage)
    with exclusive(place / f".{study_name}.lock", f"this study of {spec.lineage}"):
        plan = make_plan(spec, begin, load_tokenizer(spec.model), place / f".{study_name}.plan")
        _check_on_rows(tried, spec.tune, plan, begin)
        # Other rows make another study: its trials could not be held against these.
        name = hashlib.sha256(f"{study_name}{data_digest(plan)}".encode()).hexdigest()[:12]
        folder = place / name
        if only is not None and folder != only:
            return None
        if request.must_exist and not folder.is_dir():
            raise NotFoundError(
                f"--resume: no study of this spec was begun ({folder}); start one without it"
            )
        folder.mkdir(parents=True, exist_ok=True)
        num_stages = len(cut_to(plan.job, spec.tune.num_tasks).stages)
        about = (*cut_warnings(spec.tune), *warnings_of(spec.tune, num_stages))
        plan = replace(plan, warnings=(*plan.warnings, *about))
        for warning in plan.warnings:
            say(f"warning: {warning}")
        planned = Planned(name, request, spec.tune, plan, folder)
        with Tracker(folder, request.home.tracking_uri) as tracker:
            _start_tracking(tracker, request, spec, name)
            study_run = StudyRun(planned, tracker, say)
            study_run.run()
        shutil.rmtree(plan.job.folder, ignore_errors=True)
    return study_run.study(), folder


def studies_folder(home: Home, lineage: str) -> Path:
    """Where the studies of a lineage lie."""
    return home.folder / "studies" / lineage


def _tried(source: RawSpec) -> list[Witness]:
    """Every end of every range, tried on the spec, in which there is something to search.

    Raises:
        SpecError: With everything that is wrong.
    """
    spec, tune = source.spec, source.spec.tune
    if tune is None:
        hint = "Add one: tune: {parameters: {training.learning_rate: {log: [1.0e-5, 1.0e-3]}}}"
        raise SpecError([Problem("tune", "the spec says nothing about what to search", hint=hint)])
    tried = witnesses(source, tune.parameters)
    if tune.strategy == "stability_decay":
        source.with_settings(decay_settings(tune))
    _check_in_turn(spec)
    check_witnesses(tried, _check_in_turn)
    if tune.warm_start and tune.algorithm == "grid":
        message = "a grid has points and an order of its own"
        raise SpecError([Problem("tune.warm_start", message, True, "Remove it, or use gp")])
    if tune.strategy == "search" and tune.algorithm == "grid":
        check_grid(tune)
    if tune.early_stopping and spec.scaling.num_workers > 1:
        message = "a trial with a worker group reports only at its end"
        hint = "Remove it, or set scaling.num_workers to 1"
        raise SpecError([Problem("tune.early_stopping", message, tune.early_stopping, hint)])
    return tried


def _check_in_turn(spec: UpdateSpec) -> None:
    if spec.joint:
        message = "tasks learned at once have neither plasticity nor stability to trade"
        raise SpecError([Problem("joint", message, True, "Remove it to tune")])


def _check_on_rows(tried: Sequence[Witness], tune: TuneSpec, plan: Plan, lineage: Start) -> None:
    """What only the rows and the lineage can tell, before the first trial.

    Raises:
        SpecError: With everything that is wrong.
    """
    tasks = cut_to(plan.job, tune.num_tasks).tasks
    if "stability" in tune.objectives and len({task.stage for task in tasks}) < 2:
        message = "the lineage has one task, and nothing that could be forgotten"
        hint = "Add a task, or set tune.objectives: [plasticity]"
        raise SpecError([Problem("tune.objectives", message, list(tune.objectives), hint)])
    _check_same_blocks(tune, plan)

    def check(spec: UpdateSpec) -> None:
        check_joint(spec)
        check_continues(spec, lineage)
        check_context(spec)
        check_memory(spec, tasks)

    check_witnesses(tried, check)


def _check_same_blocks(tune: TuneSpec, plan: Plan) -> None:
    """Check that raw text is cut into the same rows for all trials.

    Raises:
        SpecError: Raw text, and a search over what cuts it.
    """
    texts = [held.rows.texts for held in plan.data.held_out.values()]
    if not plan.job.is_language or not any(is_raw(str(own[0])) for own in texts if len(own)):
        return
    message = "raw text is cut into other rows with another value, which cannot be compared"
    hint = "Remove it, and run a study for each value"
    cutting = [name for name in ("training.max_length", "model.name") if name in tune.parameters]
    if cutting:
        raise SpecError([Problem(parameter_path(own), message, hint=hint) for own in cutting])


def _start_tracking(tracker: Tracker, request: Request, spec: UpdateSpec, name: str) -> None:
    raw, text = spec_as_dict(spec), spec_as_yaml(spec)
    tracker.start(spec.lineage, f"study {name}", raw, text, request.source.folder, send=False)
    tracker.set_tags({"ratchet.study": name})
