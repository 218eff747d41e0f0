"""A run whose home is a copy of a store: what is brought here before it, and kept there during it.

The driver may die, and this machine with it: another one goes on from the last checkpoint that the
store holds. Where a home keeps its state itself, nothing here does anything.
"""

from __future__ import annotations

from dataclasses import replace

from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.registry.s3.runs import open_run
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.outcome import has_outcome
from ratchet.pipelines.training.trainer import checkpoints_here
from ratchet.pipelines.update.kept_result import write_result
from ratchet.pipelines.update.plan import Plan
from ratchet.pipelines.update.result import UpdateResult
from ratchet.pipelines.update.stale import DIGEST_FILE


def mirrored(plan: Plan, registry: Registry, run: str) -> Plan:
    """The plan with the place of its run in the store, and its latest checkpoint here.

    A run that has checkpoints here goes on from them.

    Args:
        plan: The update; what is stale of its run was discarded.
        registry: Says which store there is.
        run: The run's name in the store; the same on every machine.
    """
    job = plan.job
    data = (job.folder / DIGEST_FILE).read_text(encoding="utf-8")
    address = registry.run_address(job.spec.lineage, run, data)
    if address is None:
        return plan
    job = replace(job, mirror=address)
    local = checkpoints_here(job)
    if not has_outcome(job.folder) and local.latest() is None:
        open_run(address).fetch_checkpoint(local.folder)
    return replace(plan, job=job)


def keep_result(job: UpdateJob, result: UpdateResult) -> None:
    """Keep what a version gave that is about to be published."""
    write_result(job.folder, result)
    if job.mirror is not None:
        open_run(job.mirror).keep_result(result.kept())


def discard_run(registry: Registry, lineage: str, run: str) -> None:
    """Remove what the store keeps of a run that has come to its end."""
    address = registry.run_address(lineage, run)
    if address is not None:
        open_run(address).discard()
