"""The entry point of an update: from a spec to a registered, judged version."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from ratchet.pipelines.data.batching import num_steps
from ratchet.pipelines.evaluation.history import History
from ratchet.pipelines.files.atomic_file import rename_for_good, write_atomically
from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.spec.update_spec import UpdateSpec, spec_as_dict, spec_as_yaml
from ratchet.pipelines.tracking.tracker import Tracker
from ratchet.pipelines.training.events import Planned, PlannedStage, Warned
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.outcome import has_outcome, read_outcome
from ratchet.pipelines.training.trainer import DRAFT_FOLDER, check_outcome, teach_here, teach_on_ray
from ratchet.pipelines.update.assembly import Surroundings, result_of, seconds_of
from ratchet.pipelines.update.ending import HandOver, Registering, end_run, finish_cut_off
from ratchet.pipelines.update.events import EventHandler, following
from ratchet.pipelines.update.gating import judge_update
from ratchet.pipelines.update.history import joint_history, lineage_history
from ratchet.pipelines.update.judging import judge_served
from ratchet.pipelines.update.kept_result import CLAIM_FILE, RESULT_FILE, read_result
from ratchet.pipelines.update.mirror import discard_run, keep_result, mirrored
from ratchet.pipelines.update.plan import Plan, make_plan, run_digest
from ratchet.pipelines.update.ray_session import ray_session
from ratchet.pipelines.update.result import UpdateResult
from ratchet.pipelines.update.stale import discard_if_stale
from ratchet.pipelines.update.start import open_start
from ratchet.pipelines.update.writing import complete_draft, write_draft

_log = logging.getLogger(__name__)

CUT_OFF_WORDS = "this update was interrupted after its version was written: nothing is taught again"


def run_update(
    spec: UpdateSpec,
    home: Home,
    on_event: EventHandler = lambda _event: None,
    spec_folder: Path | None = None,
    address: str | None = None,
    hand_over: HandOver | None = None,
) -> UpdateResult:
    """Teach, measure, judge and register; interrupted, the same call goes on from there.

    Args:
        spec: What to teach, with absolute paths.
        home: Where state lives.
        on_event: Told of everything that happens, for progress lines.
        spec_folder: Where the spec came from, for its git commit.
        address: A Ray cluster to run on; None starts one here where workers are asked for.
        hand_over: Leaves registering to the caller; the same call then returns what was kept.

    Returns:
        The result; handed over, with the key of its tracked run as `run`.

    Raises:
        RatchetError: Whatever is wrong, with what to do about it; nothing that was there is lost.
    """
    started = time.perf_counter()
    registry = home.registry
    end = Registering() if hand_over is None else hand_over
    tracked = partial(_tracked, spec, home, spec_folder)
    # One Ray for all: data over the memory budget is prepared on it too.
    with registry.update_lock(spec.lineage), ray_session(spec.scaling, address):
        cut_off = end.cut_off(spec, home.runs(spec.lineage), registry)
        if cut_off is not None:
            on_event(Warned(CUT_OFF_WORDS))
            return finish_cut_off(*cut_off, end, registry, tracked)
        parent = end.start(spec, registry)
        begin = open_start(None if parent is None else registry.fetched(spec.lineage, parent))
        joint = _joint(spec, registry)
        digest = run_digest(spec, begin)
        folder, name = end.folder(home.runs(spec.lineage), digest), end.name(digest)
        folder.mkdir(parents=True, exist_ok=True)
        plan = make_plan(spec, begin, load_tokenizer(spec.model), folder)
        on_event(_planned(plan))
        for warning in plan.warnings:
            on_event(Warned(warning))
        if discard_if_stale(plan):
            message = "the data has changed since this run was interrupted: it starts afresh"
            on_event(Warned(message))
        plan = mirrored(plan, registry, name)
        prepared = time.perf_counter() - started
        with tracked(folder, send=False) as tracker:
            with following(folder, on_event, tracker, plan):
                _teach(plan)
            result = _finish(plan, registry, tracker, joint, prepared, started, end)
        discard_run(registry, spec.lineage, name)
        end_run(folder)
    return result


@contextmanager
def _tracked(
    spec: UpdateSpec, home: Home, spec_folder: Path | None, folder: Path, *, send: bool = True
) -> Iterator[Tracker]:
    """The tracker of the run in a folder, started with its spec."""
    with Tracker(folder, home.tracking_uri) as tracker:
        raw = spec_as_dict(spec)
        tracker.start(spec.lineage, folder.name, raw, spec_as_yaml(spec), spec_folder, send=send)
        yield tracker


def _joint(spec: UpdateSpec, registry: Registry) -> History | None:
    """The joint run to measure intransigence against; looked up before anything is taught."""
    reference = spec.evaluation.joint
    return None if reference is None else joint_history(reference, registry)


def _planned(plan: Plan) -> Planned:
    """The event that says what will be taught: rows, epochs and steps of each stage."""
    job, stages = plan.job, []
    training = job.spec.training
    for stage in job.stages:
        rows = len(plan.data.train[stage[0].stage])
        size = PlannedStage(
            tasks=tuple(task.name for task in stage),
            num_rows=rows,
            num_epochs=training.num_epochs,
            num_steps=num_steps(rows, training.batch_size) * training.num_epochs,
        )
        stages.append(size)
    parent = None if job.parent is None else int(job.parent.name)
    return Planned(str(job.folder), parent, tuple(stages))


def _teach(plan: Plan) -> None:
    if has_outcome(plan.job.folder):
        return  # interrupted after teaching, before it was registered
    if plan.job.spec.scaling.num_workers == 0:
        teach_here(plan.job, plan.data)
    else:
        teach_on_ray(plan.job, plan.data)
    check_outcome(plan.job.folder)


def _finish(
    plan: Plan,
    registry: Registry,
    tracker: Tracker,
    joint: History | None,
    prepared: float,
    started: float,
    end: Registering | HandOver,
) -> UpdateResult:
    """Judge, write the version, make it known; interrupted, it ends the same next time."""
    job = plan.job
    outcome = read_outcome(job.folder)
    history = lineage_history(plan.job, outcome.scores, outcome.baseline)
    number = _claimed_number(job.folder, registry, job.spec.lineage)
    target = registry.path(job.spec.lineage, number)
    if registry.is_written(job.spec.lineage, number):  # cut off after it got its name
        result = read_result(job.folder / RESULT_FILE)
    else:
        manifest = write_draft(plan, outcome, number)
        loading = time.perf_counter()
        findings = judge_served(
            job.folder / DRAFT_FOLDER,
            plan.texts,
            outcome.held,
            job.spec.routing.answer_by,
            plan.out_of_scope,
            is_language=job.is_language,
        )
        accepted = _accepted(registry, job)
        verdict, record = judge_update(job, plan.texts, outcome, findings, number, accepted)
        now = time.perf_counter()
        around = Surroundings(
            number=number,
            joint=joint,
            seconds=seconds_of(outcome, prepared, now - loading, now - started),
            report=str(target / "report.html"),
            run=end.run_key(tracker),
            as_served=findings.as_served,
        )
        result = result_of(plan, history, verdict, outcome, around)
        complete_draft(plan, outcome, history, result, manifest, record)
        end.before_writing()
        keep_result(job, result)  # before the version has its name: whoever finds one has both
        rename_for_good(job.folder / DRAFT_FOLDER, target)
    registry.publish(job.spec.lineage, number)
    end.make_known(result, registry, tracker)
    return result


def _accepted(registry: Registry, job: UpdateJob) -> Collection[str]:
    """Tasks whose loss was accepted when the version that an update grows from was promoted."""
    if job.parent is None:
        return ()
    answered = registry.aliases(job.spec.lineage).by_hand.get(int(job.parent.name))
    return () if answered is None else tuple(answered.accepted)


def _claimed_number(folder: Path, registry: Registry, lineage: str) -> int:
    """The version number of this run: the one claimed before an interruption, or the next."""
    claim = folder / CLAIM_FILE
    if not claim.is_file():
        write_atomically(claim, str(registry.next_number(lineage)))
    return int(claim.read_text(encoding="utf-8"))
