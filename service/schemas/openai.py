"""What goes over the wire in OpenAI's fine-tuning dialect, with our fields beside theirs."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field

from ratchet.service.schemas.jobs import Body, Decision, Level, Metadata, Progress
from ratchet.service.schemas.json_fields import JsonFields

OpenAIStatus = Literal[
    "validating_files", "queued", "running", "paused", "succeeded", "failed", "cancelled"
]
MAX_NAME = 256
Auto = Literal["auto"]
MAX_COUNT = 1_000_000
PositiveCount = Annotated[int, Field(strict=True, ge=1, le=MAX_COUNT)]
Multiplier = Annotated[float, Field(strict=True, gt=0, le=1e6, allow_inf_nan=False)]
FileId = Annotated[str, Field(strict=True, min_length=1, max_length=MAX_NAME)]


class Hyperparameters(Body):
    """How long and how fast; `auto`, or nothing, leaves it to the preset."""

    n_epochs: Auto | PositiveCount | None = None
    batch_size: Auto | PositiveCount | None = None
    learning_rate_multiplier: Auto | Multiplier | None = None


class Supervised(Body):
    """Settings of supervised training."""

    hyperparameters: Hyperparameters | None = None


class TrainingMethod(Body):
    """How to learn; only `supervised` is offered."""

    type: Literal["supervised"]
    supervised: Supervised | None = None


class FineTuningRequest(Body):
    """An update in OpenAI's words.

    Attributes:
        model: A lineage to go on with, from its champion when the update begins; `lineage@version`
            of the present champion; or a base model to begin a lineage from.
        training_file: Id of an uploaded file: `{text, label}` rows, or chats whose last user
            message is the text and whose last assistant message is the label.
        validation_file: Id of an uploaded file to choose and to judge by.
        suffix: Name of a new lineage; needed with a base model unless `metadata.lineage` is given.
        hyperparameters: The older place of `method.supervised.hyperparameters`.
        method: How to learn.
        seed: Of every random choice.
        metadata: Pairs to find the job by. Read are `lineage`, `task` (by default the file's
            name), `preset` (by default the one of the lineage's last update, else
            `lora_replay_ewc`) and `kind` (`classifier` or `causal_lm`).
        integrations: Nothing can be integrated.
    """

    model: Annotated[str, Field(strict=True, min_length=1, max_length=MAX_NAME)]
    training_file: FileId
    validation_file: FileId | None = None
    suffix: Annotated[str | None, Field(strict=True, min_length=1, max_length=64)] = None
    hyperparameters: Hyperparameters | None = None
    method: TrainingMethod | None = None
    seed: Annotated[int | None, Field(strict=True, ge=0, le=2**31 - 1)] = None
    metadata: Metadata | None = None
    integrations: Annotated[list[Any] | None, Field(max_length=0)] = None


class JobErrorView(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    param: str | None = None


class MethodView(BaseModel):
    """How a job learned."""

    type: Literal["supervised"] = "supervised"
    supervised: JsonFields | None = None


class FineTuningJob(BaseModel):
    """An update in OpenAI's words.

    Attributes:
        phase: What a running job is at, as in the native dialect.
        progress: How far it is.
        promotion: What the gate decided.
    """

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    model: str
    fine_tuned_model: str | None
    organization_id: str = "ratchet"
    status: OpenAIStatus
    training_file: str
    validation_file: str | None
    hyperparameters: Hyperparameters
    method: MethodView
    seed: int
    trained_tokens: int | None
    result_files: list[str] = Field(default_factory=list)
    integrations: list[Any] = Field(default_factory=list)
    metadata: dict[str, str]
    error: JobErrorView | None
    phase: str
    progress: Progress | None
    promotion: Decision | None


class FineTuningEvent(BaseModel):
    """Something that happened to a job; `type` is never one that OpenAI's clients do not know."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Level
    type: Literal["message", "metrics"]
    message: str
    data: JsonFields


class CheckpointMetrics(BaseModel):
    """What was measured at a checkpoint.

    Attributes:
        full_valid_mean_token_accuracy: The share of all validation rows of the task just learned
            that are answered rightly when the task is known.
    """

    step: float
    full_valid_mean_token_accuracy: float | None = None


class FineTuningCheckpoint(BaseModel):
    """A point that a job can go on from.

    Attributes:
        fine_tuned_model_checkpoint: A name for people: it is no `model` to go on with or to ask.
    """

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    step_number: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: str
    metrics: CheckpointMetrics


class FileView(BaseModel):
    """An uploaded file; `sha256` of its content is beyond the dialect."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    filename: str
    sha256: str
    purpose: Literal["fine-tune"]
    status: Literal["processed"] = "processed"
    expires_at: int | None = None
    status_details: str | None = None


class FileDeletion(BaseModel):
    """That a file is gone."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class ModelView(BaseModel):
    """A base model, a lineage or a version.

    Attributes:
        root: The version behind it, or the base model itself.
        parent: The base model; null for a base model.
    """

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: str = "ratchet"
    root: str
    parent: str | None


class ModelListing(BaseModel):
    """Everything that a job can go on from."""

    object: Literal["list"] = "list"
    data: list[ModelView]
