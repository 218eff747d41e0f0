# pyright: reportUnknownVariableType=false
"""Records of the store as OpenAI's dialect shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from ratchet.pipelines.files.json_value import Json
from ratchet.service.api.request_entry import RequestEntry, request_entry
from ratchet.service.api.views import DecidedJob, own_metadata, whole
from ratchet.service.schemas.jobs import JobError
from ratchet.service.schemas.openai import (
    MAX_COUNT,
    CheckpointMetrics,
    FileView,
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    Hyperparameters,
    JobErrorView,
    MethodView,
    OpenAIStatus,
)
from ratchet.service.store.records import Event, File, Job


def fine_tuning_job(decided: DecidedJob) -> FineTuningJob:
    """An update."""
    job = decided.job
    request = request_entry(job)
    training = _mapping(job.spec.get("training"))
    hyperparameters = _hyperparameters(request, training)
    seed = training.get("seed", 0)
    return FineTuningJob(
        id=job.id,
        created_at=int(job.created_at),
        finished_at=whole(job.finished_at),
        estimated_finish=whole(job.estimated_finish),
        model=request.model if request else str(_mapping(job.spec.get("model")).get("name")),
        fine_tuned_model=_fine_tuned_model(decided),
        status=_status(job),
        training_file=request.training_file if request else _first_split(job, "train") or "",
        validation_file=(request and request.validation_file) or _first_split(job, "validation"),
        hyperparameters=hyperparameters,
        method=MethodView(supervised={"hyperparameters": hyperparameters.model_dump()}),
        seed=seed if isinstance(seed, int) else 0,
        trained_tokens=None,
        metadata=own_metadata(job),
        error=_error(job.error) if job.status == "failed" else None,
        phase=job.phase,
        progress=job.progress,
        promotion=decided.decision,
    )


def _mapping(value: Json) -> Mapping[str, Json]:
    return value if isinstance(value, Mapping) else {}


def _hyperparameters(request: RequestEntry | None, training: Mapping[str, Json]) -> Hyperparameters:
    multiplier = request and request.hyperparameters.learning_rate_multiplier
    return Hyperparameters(
        n_epochs=_count(training.get("num_epochs")),
        batch_size=_count(training.get("batch_size")),
        learning_rate_multiplier=multiplier or "auto",
    )


def _count(value: Json) -> int | Literal["auto"]:
    """A count of a spec, which may be written in other ways than a request may write it."""
    return value if type(value) is int and 0 < value <= MAX_COUNT else "auto"


def _first_split(job: Job, split: str) -> str | None:
    tasks = job.spec.get("tasks")
    first = tasks[0] if isinstance(tasks, list) and tasks else job.spec.get("stream")
    path = _mapping(first).get(split)
    return path if isinstance(path, str) else None


def _fine_tuned_model(decided: DecidedJob) -> str | None:
    made = decided.promotion
    return None if made is None else f"{made.lineage}@{made.version}"


def _status(job: Job) -> OpenAIStatus:
    is_checking = job.status == "running" and job.phase == "checking_data"
    return "validating_files" if is_checking else job.status


def _error(error: JobError | None) -> JobErrorView | None:
    if error is None:
        return None
    param = "training_file" if error.code == "data" else None
    return JobErrorView(code=error.code, message=error.message, param=param)


def fine_tuning_event(event: Event) -> FineTuningEvent:
    """An event."""
    return FineTuningEvent(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        type="metrics" if event.type == "metrics" else "message",
        message=event.message,
        data=event.data or {},
    )


def checkpoint(job: Job, event: Event) -> FineTuningCheckpoint:
    """A checkpoint, from the event that told of it."""
    data = event.data or {}
    step = data.get("step_number", data.get("step"))  # of the whole job, where it is told
    number = step if isinstance(step, int) else 0
    accuracy = _mapping(data.get("metrics")).get("validation_own")
    return FineTuningCheckpoint(
        id=checkpoint_id(event),
        created_at=int(event.created_at),
        step_number=number,
        fine_tuning_job_id=job.id,
        fine_tuned_model_checkpoint=f"{job.lineage}:ckpt-step-{number}",
        metrics=CheckpointMetrics(
            step=number,
            full_valid_mean_token_accuracy=accuracy if isinstance(accuracy, int | float) else None,
        ),
    )


def checkpoint_id(event: Event) -> str:
    """The id by which clients know a checkpoint."""
    return event.id.replace("ftevent-", "ftckpt_", 1)


def file_view(file: File) -> FileView:
    """An upload."""
    return FileView(
        id=file.id,
        bytes=file.bytes,
        created_at=int(file.created_at),
        filename=file.filename,
        sha256=file.sha256,
        purpose="fine-tune",
    )
