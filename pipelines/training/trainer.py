"""Starts the worker group of an update: inside this process, or as Ray Train workers.

One group for the whole update, because starting a group costs many seconds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch

from ratchet.pipelines import errors
from ratchet.pipelines.data.prepared import (
    DATA_FOLDER,
    PreparedData,
    load_data,
    save_data,
)
from ratchet.pipelines.errors import RatchetError
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.models.precision import own_cpus, set_threads
from ratchet.pipelines.quiet import quiet_libraries
from ratchet.pipelines.training.allocator import WORKER_ALLOCATOR, keep_freed_memory
from ratchet.pipelines.training.checkpoint import FolderCheckpoints
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.mirrored import mirrored_where_asked
from ratchet.pipelines.training.outcome import has_outcome
from ratchet.pipelines.training.stream import StreamTeacher
from ratchet.pipelines.training.workers import SingleWorker, current_workers

DRAFT_FOLDER = "draft"
CHECKPOINTS_FOLDER = "checkpoints"
RAY_FOLDER = ".ray"
"""Among the checkpoints, what Ray Train itself writes. Checkpoints are not reported to it: it notes
them in a file that a kill may leave empty, and then starts no more."""
FAILURE_FILE = "failure.json"

RAY_TRAIN_SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",  # a dead worker is seen after this long
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_PRINT_PATCH": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}
WORKER_SETTINGS = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    **WORKER_ALLOCATOR,
}


def teach_here(job: UpdateJob, data: PreparedData) -> None:
    """Teach inside this process, with all of its CPUs."""
    set_threads(own_cpus())
    keep_freed_memory()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    worker = SingleWorker()
    with mirrored_where_asked(job, checkpoints_here(job), worker) as store:
        teacher = StreamTeacher(job, data, worker, device, store)
        teacher.run()
        teacher.write(job.folder / DRAFT_FOLDER)


def teach_on_ray(job: UpdateJob, data: PreparedData) -> None:
    """Teach on a group of Ray Train workers; up to `max_failures` dead ones are replaced.

    Ray must be initialized. The same job, started again after its driver died, goes on from its
    last checkpoint.

    Raises:
        RatchetError: The error that a worker raised, or what Ray says of the group.
    """
    os.environ.update({k: v for k, v in RAY_TRAIN_SETTINGS.items() if k not in os.environ})
    from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError
    from ray.train.torch import TorchTrainer

    (job.folder / FAILURE_FILE).unlink(missing_ok=True)
    save_data(data, job.folder / DATA_FOLDER)
    scaling = job.spec.scaling
    resources = {"CPU": scaling.cpus_per_worker}
    if scaling.gpus_per_worker:
        resources["GPU"] = scaling.gpus_per_worker
    trainer = TorchTrainer(
        _teach_as_worker,
        train_loop_config=job.to_json(),
        scaling_config=ScalingConfig(
            num_workers=scaling.num_workers,
            use_gpu=scaling.gpus_per_worker > 0,
            resources_per_worker=resources,
        ),
        run_config=RunConfig(
            name=RAY_FOLDER,
            storage_path=str(job.folder / CHECKPOINTS_FOLDER),
            failure_config=FailureConfig(max_failures=scaling.max_failures),
            worker_runtime_env={"env_vars": WORKER_SETTINGS},
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError as error:
        raise RatchetError(f"the worker group failed: {error}") from error


def _teach_as_worker(raw: JsonObject) -> None:
    """What each Ray Train worker runs."""
    import ray.train.torch

    quiet_libraries()
    job = UpdateJob.from_json(raw)
    set_threads(job.spec.scaling.cpus_per_worker)
    keep_freed_memory()
    try:
        _teach_in_group(job, ray.train.torch.get_device())
    except RatchetError as error:
        # Starting the group again would meet the same error: say it instead of raising it.
        failure = {"type": type(error).__name__, "message": str(error)}
        write_atomically(job.folder / FAILURE_FILE, json.dumps(failure))


def _teach_in_group(job: UpdateJob, device: torch.device) -> None:
    data = load_data(job.folder / DATA_FOLDER)
    workers = current_workers()
    local = FolderCheckpoints(job.folder / CHECKPOINTS_FOLDER, workers)
    with mirrored_where_asked(job, local, workers) as store:
        teacher = StreamTeacher(job, data, workers, device, store)
        teacher.run()
        teacher.write(job.folder / DRAFT_FOLDER)


def checkpoints_here(job: UpdateJob) -> FolderCheckpoints:
    """Where the checkpoints of a run lie on this machine, or on the disk that its workers share."""
    return FolderCheckpoints(job.folder / CHECKPOINTS_FOLDER)


def check_outcome(folder: Path) -> None:
    """Check that the workers wrote what they know.

    Raises:
        RatchetError: What a worker said that it met, or that they ended without a result.
    """
    failure = folder / FAILURE_FILE
    if failure.is_file():
        found = json.loads(failure.read_text(encoding="utf-8"))
        raise getattr(errors, found["type"], RatchetError)(found["message"])
    if not has_outcome(folder):
        raise RatchetError(f"the workers ended without a result; see {folder}")
