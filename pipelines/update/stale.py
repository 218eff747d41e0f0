"""An unfinished run is gone on with only while it is about the same data."""

from __future__ import annotations

import hashlib
import json
import shutil

from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.data.streamed import StreamedRows, fingerprint_of
from ratchet.pipelines.data.tokens import TokenizedRows
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.training.outcome import OUTCOME_FILE
from ratchet.pipelines.training.search_file import SEARCH_FILE
from ratchet.pipelines.training.trainer import CHECKPOINTS_FOLDER, DRAFT_FOLDER
from ratchet.pipelines.update.kept_result import CLAIM_FILE, RESULT_FILE
from ratchet.pipelines.update.plan import Plan

DIGEST_FILE = "data.sha256"


def discard_if_stale(plan: Plan) -> bool:
    """Discard what an interrupted run left when the data has changed since.

    The run's folder is named after the spec, which knows the paths of the data and not its content.

    Args:
        plan: The update as it would be taught now.

    Returns:
        Whether something was discarded.
    """
    path = plan.job.folder / DIGEST_FILE
    digest = data_digest(plan)
    known = path.read_text(encoding="utf-8") if path.is_file() else digest
    if known != digest:
        for name in (CHECKPOINTS_FOLDER, DRAFT_FOLDER):
            shutil.rmtree(plan.job.folder / name, ignore_errors=True)
        for name in (OUTCOME_FILE, CLAIM_FILE, RESULT_FILE, SEARCH_FILE):
            (plan.job.folder / name).unlink(missing_ok=True)
    write_atomically(path, digest)
    return known != digest


def data_digest(plan: Plan) -> str:
    """SHA-256 over the tasks, the labels and every row of an update."""
    job, digest = plan.job, hashlib.sha256()
    tasks = [[task.name, task.class_ids, task.stage] for task in job.tasks]
    digest.update(json.dumps([tasks, job.labels]).encode())
    for stage in sorted(plan.data.train):
        _add_rows(digest, plan.data.train[stage])
    for task_id in sorted(plan.data.held_out):
        _add_rows(digest, plan.data.held_out[task_id].rows)
    return digest.hexdigest()


def _add_rows(digest: hashlib._Hash, rows: BatchRows) -> None:
    tensors = [rows.targets, rows.task_ids, rows.lengths]
    if isinstance(rows, TokenizedRows):
        tensors.append(rows.tokens)
    elif isinstance(rows, StreamedRows):
        digest.update(str(fingerprint_of(rows.folder)).encode())
    for tensor in tensors:
        digest.update(tensor.contiguous().numpy().tobytes())
