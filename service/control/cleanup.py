"""What a job leaves behind that only going on with it would need, here and in the store."""

from __future__ import annotations

import logging
import shutil
import threading
from contextlib import suppress
from pathlib import Path

from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.registry.s3.address import RunAddress
from ratchet.pipelines.registry.s3.runs import open_run
from ratchet.service.driver.kinds import run_name
from ratchet.service.errors import JobNotFoundError
from ratchet.service.store.database import Database
from ratchet.service.store.jobs import get_job
from ratchet.service.store.records import Job

FOLDERS = ("checkpoints", "data", "draft")

_log = logging.getLogger(__name__)


def clear_leftovers(home: Path, registry: Registry, job: Job) -> threading.Thread | None:
    """Remove what only going on with an update that has ended would need.

    Args:
        home: The folder that keeps all state.
        registry: Says which store there is.
        job: An update that has ended, of which nothing runs any more.

    Returns:
        The thread that removes what the store has, which may be slow or away; None without a store.
    """
    lineage, names = str(job.lineage), {run_name(job.id, job.parent)}
    for run in (home / "runs" / lineage).glob(f"{job.id}-from-*"):
        names.add(run.name)
        for name in FOLDERS:
            shutil.rmtree(run / name, ignore_errors=True)
    addresses = [registry.run_address(lineage, name) for name in sorted(names)]
    there = [address for address in addresses if address is not None]
    if not there:
        return None
    thread = threading.Thread(target=_discard, args=(there,), name="ratchet-leftovers", daemon=True)
    thread.start()
    return thread


def clear_ended(db: Database, home: Path, registry: Registry) -> int:
    """Clear up after updates that ended while no controller looked: killed, or cancelled in pause.

    Args:
        db: The database.
        home: The folder that keeps all state.
        registry: Says which store there is.

    Returns:
        After how many.
    """
    left = {
        run.name.partition("-from-")[0]
        for name in FOLDERS
        for run in (place.parent for place in home.glob(f"runs/*/*-from-*/{name}"))
    }
    num_cleared = 0
    for job_id in sorted(left):
        with suppress(JobNotFoundError):  # somebody's own run, or another service's
            job = get_job(db, job_id)
            if job.has_ended:
                clear_leftovers(home, registry, job)
                num_cleared += 1
    return num_cleared


def _discard(addresses: list[RunAddress]) -> None:
    for address in addresses:
        try:
            open_run(address).discard()
        except (RatchetError, OSError) as error:
            _log.warning("run %s: the store keeps what is left of it: %s", address.run, error)
