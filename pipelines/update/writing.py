"""The draft of a version: what the driver knows is added, the manifest last.

It is written in two steps: first all that serving needs, so that it can be loaded and judged; then
what the judgement gives.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace

from ratchet.pipelines.evaluation.history import History
from ratchet.pipelines.registry.manifest import Manifest, TaskRecord, write_manifest
from ratchet.pipelines.report.page import render
from ratchet.pipelines.spec.update_spec import spec_as_yaml
from ratchet.pipelines.training.outcome import Outcome
from ratchet.pipelines.training.trainer import DRAFT_FOLDER
from ratchet.pipelines.update.gating import GateRecord
from ratchet.pipelines.update.plan import Plan
from ratchet.pipelines.update.report_input import report_data
from ratchet.pipelines.update.result import UpdateResult
from ratchet.pipelines.version import write_held_out, write_matrix, write_out_of_scope

VERDICT_FILE = "verdict.json"
"""What the gate found, task by task; see `evaluation.verdict`."""
LIBRARIES = ("torch", "transformers", "peft", "ray")


def write_draft(plan: Plan, outcome: Outcome, number: int) -> Manifest:
    """Add to the draft what serving needs; the manifest last, without any judgement yet."""
    job, folder = plan.job, plan.job.folder / DRAFT_FOLDER
    spec_yaml = spec_as_yaml(job.spec)
    for task_id, texts in plan.texts.items():
        write_held_out(folder, task_id, texts)
    write_out_of_scope(folder, plan.out_of_scope)
    (folder / "spec.yaml").write_text(spec_yaml, encoding="utf-8")
    manifest = Manifest(
        lineage=job.spec.lineage,
        version=number,
        parent=None if job.parent is None else int(job.parent.name),
        created=time.time(),
        base_model={
            **job.spec.model.model_dump(mode="json"),
            "sha256": outcome.base_sha256,
        },
        scenario=job.spec.scenario,
        methods=[method.model_dump(mode="json") for method in job.spec.methods],
        labels=list(job.labels),
        tasks=[
            TaskRecord(id=task.id, name=task.name, class_ids=list(task.class_ids), stage=task.stage)
            for task in job.tasks
        ],
        routing={
            "threshold": outcome.calibration.threshold,
            "accept_fraction": job.spec.routing.accept_fraction,
            "max_length": job.spec.training.max_length,
        },
        strengths=dict(outcome.strengths),
        libraries=_library_versions(),
    )
    return write_manifest(folder, manifest)


def complete_draft(
    plan: Plan,
    outcome: Outcome,
    history: History,
    result: UpdateResult,
    manifest: Manifest,
    record: GateRecord,
) -> None:
    """Add to the draft what it was judged to be; the manifest again, last."""
    folder = plan.job.folder / DRAFT_FOLDER
    write_matrix(folder, history.as_dict() | {"right": outcome.right[-1], "gate": record.as_dict()})
    verdict = json.dumps(result.gate.as_dict(), indent=2)
    (folder / VERDICT_FILE).write_text(verdict, encoding="utf-8")
    answering = {} if result.as_served is None else result.as_served.answering.as_dict()
    manifest = replace(manifest, metrics=dict(result.metrics), answering=answering)
    spec_yaml = spec_as_yaml(plan.job.spec)
    render(report_data(plan, outcome, result, manifest, spec_yaml), folder)
    write_manifest(folder, manifest)


def _library_versions() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in LIBRARIES}
