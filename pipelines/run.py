"""The entry point of an update: from a spec to a registered, judged version."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipelines.atomic_file import rename_for_good, write_atomically
from pipelines.config import UpdateSpec, spec_as_dict, spec_as_yaml
from pipelines.costs import split_costs, task_costs
from pipelines.data.batching import num_steps
from pipelines.gate import Verdict
from pipelines.hand_over import CLAIM_FILE, HandOver
from pipelines.instruments import instrument_details, instrument_metrics
from pipelines.joint_bound import intransigence_of, joint_history
from pipelines.language_result import language_result
from pipelines.lineage_history import lineage_history
from pipelines.manifest import Manifest, write_manifest
from pipelines.models.load import load_tokenizer
from pipelines.outcome import History, judge, main_measure, rounded
from pipelines.plan import Plan, make_plan, open_lineage, run_digest
from pipelines.ray_session import ray_session
from pipelines.registry import Registry
from pipelines.remote.attachment import attach_store
from pipelines.report.page import render
from pipelines.report_input import report_data
from pipelines.run_end import Registering, end_run, finish_cut_off
from pipelines.run_events import EventHandler, following
from pipelines.run_mirror import discard_run, keep_result, mirrored
from pipelines.stale_run import discard_if_stale
from pipelines.tracking import Tracker
from pipelines.training.stream import OUTCOME_FILE
from pipelines.training.trainer import DRAFT_FOLDER, check_outcome, teach_here, teach_on_ray
from pipelines.version import read_matrix, write_held_out, write_matrix

_log = logging.getLogger(__name__)

LIBRARIES = ("torch", "transformers", "peft", "ray")
CUT_OFF_WORDS = "this update was interrupted after its version was written: nothing is taught again"


@dataclass(frozen=True)
class Home:
    """Where state lives.

    Attributes:
        folder: Versions, runs, and by default the MLflow store.
        tracking_uri: The MLflow store, or None to keep the outbox only.
    """

    folder: Path
    tracking_uri: str | None

    @staticmethod
    def at(folder: Path, tracking_uri: str | None = None, store: str | None = None) -> Home:
        """A home with its own MLflow store, unless another is given.

        Args:
            folder: Where state lives.
            tracking_uri: The MLflow store.
            store: The store on S3 that the home is a copy of, where it is not known there yet.

        Raises:
            StoreError: The store cannot be used.
            SpecError: The home cannot be a copy of it.
        """
        folder = folder.resolve()
        if store is not None:
            attach_store(folder, store)
        return Home(folder, tracking_uri or f"sqlite:///{folder / 'mlflow.db'}")

    @property
    def registry(self) -> Registry:
        """The versions below this home."""
        return Registry(self.folder, self.tracking_uri)

    def runs(self, lineage: str) -> Path:
        """Where the runs of a lineage lie."""
        return self.folder / "runs" / lineage


def run_update(
    spec: UpdateSpec,
    home: Home,
    on_event: EventHandler = lambda _event: None,
    spec_folder: Path | None = None,
    address: str | None = None,
    hand_over: HandOver | None = None,
) -> dict[str, Any]:
    """Teach, measure, judge and register; interrupted, the same call goes on from there.

    Args:
        spec: What to teach, with absolute paths.
        home: Where state lives.
        on_event: Told of everything that happens, for progress lines.
        spec_folder: Where the spec came from, for its git commit.
        address: A Ray cluster to run on; None starts one here where workers are asked for.
        hand_over: Leaves registering to the caller; the same call then returns what was kept.

    Returns:
        The result object of `ratchet run --json`; handed over, with the key of its tracked run as
        `run`.

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
            on_event({"kind": "warning", "message": CUT_OFF_WORDS})
            return finish_cut_off(*cut_off, end, registry, tracked)
        parent = end.start(spec, registry)
        lineage = open_lineage(None if parent is None else registry.fetched(spec.lineage, parent))
        joint = _joint(spec, registry)
        digest = run_digest(spec, lineage)
        folder, name = end.folder(home.runs(spec.lineage), digest), end.name(digest)
        folder.mkdir(parents=True, exist_ok=True)
        plan = make_plan(spec, lineage, load_tokenizer(spec.model), folder)
        on_event(_planned(plan))
        for warning in plan.warnings:
            on_event({"kind": "warning", "message": warning})
        if discard_if_stale(plan):
            message = "the data has changed since this run was interrupted: it starts afresh"
            on_event({"kind": "warning", "message": message})
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


def _metrics_by_measure(plan: Plan, result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The metrics of a result by the measure that they are of."""
    found = {main_measure(plan.job.spec.scenario): result["metrics"]}
    if "with_task_id" in result:
        found["test_own"] = result["with_task_id"]["metrics"]
    return found


def _planned(plan: Plan) -> dict[str, Any]:
    """The event that says what will be taught: rows, epochs and steps of each stage."""
    job, stages = plan.job, []
    training = job.spec.training
    for stage in job.stages:
        rows = len(plan.data.train[stage[0].stage])
        size = {
            "tasks": [task.name for task in stage],
            "num_rows": rows,
            "num_epochs": training.num_epochs,
            "num_steps": num_steps(rows, training.batch_size) * training.num_epochs,
        }
        stages.append(size)
    parent = None if job.parent is None else int(job.parent.name)
    return {"kind": "planned", "folder": str(job.folder), "parent": parent, "stages": stages}


def _teach(plan: Plan) -> None:
    if (plan.job.folder / OUTCOME_FILE).is_file():
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
) -> dict[str, Any]:
    """Judge, write the version, make it known; interrupted, it ends the same next time."""
    job = plan.job
    outcome = json.loads((job.folder / OUTCOME_FILE).read_text(encoding="utf-8"))
    history = lineage_history(plan.job, outcome)
    verdict = judge(history, job.new[0].stage, job.spec.gate)
    number = _claimed_number(job.folder, registry, job.spec.lineage)
    target = registry.path(job.spec.lineage, number)
    result = _result(plan, history, verdict, number, outcome)
    for measure, metrics in _metrics_by_measure(plan, result).items():
        bound = None if joint is None else intransigence_of(history, joint, measure)
        metrics["intransigence"] = bound
    result["seconds"] = _seconds(outcome, prepared, time.perf_counter() - started)
    result["report"] = str(target / "report.html")
    result |= end.facts(tracker)
    is_written = registry.is_written(job.spec.lineage, number)
    if not is_written:
        _write_version(plan, outcome, history, result, number)
        end.before_writing()
    keep_result(job, result)  # before the version has its name: whoever finds one has both
    if not is_written:
        rename_for_good(job.folder / DRAFT_FOLDER, target)
    registry.publish(job.spec.lineage, number)
    end.make_known(result, registry, tracker)
    return result


def _claimed_number(folder: Path, registry: Registry, lineage: str) -> int:
    """The version number of this run: the one claimed before an interruption, or the next."""
    claim = folder / CLAIM_FILE
    if not claim.is_file():
        write_atomically(claim, str(registry.next_number(lineage)))
    return int(claim.read_text(encoding="utf-8"))


def _result(
    plan: Plan, history: History, verdict: Verdict, number: int, outcome: Mapping[str, Any]
) -> dict[str, Any]:
    spec = plan.job.spec
    measure = main_measure(spec.scenario)
    stages = [[task.name for task in stage] for stage in plan.job.stages]
    columns = outcome.get("columns", {})
    champion = {} if plan.job.parent is None else read_matrix(plan.job.parent).get("right", {})
    metrics: dict[str, Any] = history.metrics(measure)
    metrics |= instrument_metrics(outcome, measure, stages, champion)
    result: dict[str, Any] = {
        "lineage": spec.lineage,
        "version": number,
        "promoted": verdict.promoted,
        "tasks": list(history.tasks),
        "accuracy_matrix": rounded(history.matrix(measure)),
        "metrics": metrics,
        "gate": verdict.as_dict(),
        "costs": task_costs(outcome["costs"], outcome["before"], stages, columns),
        "instruments": instrument_details(outcome, measure, stages, champion),
        "search": outcome.get("search", {}),
        "precision": outcome["precision"],
        "warnings": list(plan.warnings),
    }
    result |= language_result(plan, history)
    if measure != "test_own":
        result["with_task_id"] = {
            "accuracy_matrix": rounded(history.matrix("test_own")),
            "metrics": history.metrics("test_own")
            | instrument_metrics(outcome, "test_own", stages, champion),
        }
    return result


def _seconds(outcome: Mapping[str, Any], prepared: float, total: float) -> dict[str, float]:
    seconds = {"total": total, "prepare": prepared}
    for costs in outcome["costs"].values():
        for phase, spent in split_costs(costs)[0].items():
            seconds[phase] = seconds.get(phase, 0.0) + spent
    return {phase: round(spent, 3) for phase, spent in seconds.items()}


def _write_version(
    plan: Plan,
    outcome: Mapping[str, Any],
    history: History,
    result: Mapping[str, Any],
    number: int,
) -> None:
    """Add to the draft what the driver knows; the manifest last."""
    job, folder = plan.job, plan.job.folder / DRAFT_FOLDER
    spec_yaml = spec_as_yaml(job.spec)
    for task_id, texts in plan.texts.items():
        write_held_out(folder, task_id, texts)
    write_matrix(folder, history.as_dict() | {"right": outcome["right"][-1]})
    (folder / "spec.yaml").write_text(spec_yaml, encoding="utf-8")
    manifest = Manifest(
        lineage=job.spec.lineage,
        version=number,
        parent=None if job.parent is None else int(job.parent.name),
        created=time.time(),
        base_model={
            **job.spec.model.model_dump(mode="json"),
            "sha256": outcome["base_sha256"],
        },
        scenario=job.spec.scenario,
        methods=[method.model_dump(mode="json") for method in job.spec.methods],
        labels=list(job.labels),
        tasks=[vars(task) | {"class_ids": list(task.class_ids)} for task in job.tasks],
        metrics=dict(result["metrics"]),
        routing={
            "threshold": outcome["threshold"],
            "accept_fraction": job.spec.routing.accept_fraction,
            "max_length": job.spec.training.max_length,
        },
        strengths=outcome.get("strengths", {}),
        libraries=_library_versions(),
    )
    render(report_data(plan, outcome, result, manifest, spec_yaml), folder)
    write_manifest(folder, manifest)


def _library_versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in LIBRARIES}
