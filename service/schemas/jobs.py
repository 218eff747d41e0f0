"""What goes over the wire in the native dialect. Times are whole Unix seconds."""

from __future__ import annotations

from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from ratchet.pipelines.spec.section import Name
from ratchet.service.schemas.json_fields import JsonFields

Kind = Literal["update", "study", "plan"]
Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
Level = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics", "status", "checkpoint"]
ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")

MAX_SPEC_CHARACTERS = 512 * 1024
MAX_VERSION = 2**31 - 1

MetadataKey = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=64)]
MetadataValue = Annotated[str, StringConstraints(strict=True, max_length=512)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=16)]
Number = Annotated[int, Field(strict=True, ge=1, le=MAX_VERSION)]

Item = TypeVar("Item", bound=BaseModel)


class Body(BaseModel):
    """A body of a request: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Submission(Body):
    """A job to be done; `spec` (fields) or `spec_yaml` (the file's text), not both.

    Attributes:
        spec: The fields of a spec.
        spec_yaml: A spec as YAML.
        priority: Jobs of a higher priority start first.
        metadata: Up to 16 pairs to find the job again by; keys that begin with `ratchet.` are
            reserved.
    """

    spec: JsonFields | None = None
    spec_yaml: Annotated[str | None, Field(max_length=MAX_SPEC_CHARACTERS, strict=True)] = None
    priority: Annotated[int, Field(strict=True, ge=-100, le=100)] = 0
    metadata: Metadata = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_spec(self) -> Submission:
        if (self.spec is None) == (self.spec_yaml is None):
            raise ValueError("give exactly one of `spec` (an object) or `spec_yaml` (YAML text)")
        return self


class Progress(BaseModel):
    """How far a job is.

    Attributes:
        task: The task that is being taught.
        index: Its place among the update's tasks, from 1.
        num_tasks: Tasks of the update.
        step: Steps done of the task.
        num_steps: Steps of the task.
        seconds_left: Until the job ends, estimated.
    """

    task: str | None = None
    index: int | None = None
    num_tasks: int | None = None
    step: int | None = None
    num_steps: int | None = None
    seconds_left: float | None = None


class Decision(BaseModel):
    """What the gate decided about the version that a job made."""

    decision: Literal["promoted", "refused", "none"]
    version: int | None = None
    reasons: list[str] = Field(default_factory=list)


class ProblemView(BaseModel):
    """One thing that is wrong with a spec or its data; see `ratchet.pipelines.errors.Problem`."""

    where: str
    message: str
    value: Any = None
    hint: str = ""


class JobError(BaseModel):
    """Why a job failed."""

    code: str
    message: str
    problems: list[ProblemView] = Field(default_factory=list[ProblemView])


class JobView(BaseModel):
    """A job as it is now.

    Attributes:
        phase: `waiting`, `starting`, `checking_data`, `training`, `evaluating`, `gating`,
            `promoting`, `recovering`, `stopping` or `done`.
        attempt: How often it was started.
        parent: The version that it goes on from; null before it starts, and for a new lineage.
        result: What it yielded, once it has succeeded.
        promotion: The gate's decision, once there is one. A refused version is no failed job.
        error: Why it failed; of a lost attempt that was or will be repeated, the events tell.
        cancel_requested: Whether it is about to be cancelled.
        pause_requested: Whether it is about to be paused.
    """

    id: str
    object: Kind
    lineage: str | None
    status: Status
    phase: str
    progress: Progress | None
    attempt: int
    priority: int
    parent: int | None
    created_at: int
    started_at: int | None
    finished_at: int | None
    estimated_finish: int | None
    spec: JsonFields
    result: JsonFields | None
    promotion: Decision | None
    error: JobError | None
    metadata: dict[str, str]
    cancel_requested: bool
    pause_requested: bool = False


class Page(BaseModel, Generic[Item]):
    """A page of a list; ask for the next with `after` = `last_id`."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


class EventView(BaseModel):
    """Something that happened to a job."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Level
    type: EventType
    message: str
    data: JsonFields


class LogPage(BaseModel):
    """A piece of what an attempt of a job printed.

    Attributes:
        attempt: Which attempt.
        text: The piece.
        next_offset: Where to read on, in bytes.
        ended: Whether nothing will follow, in this attempt.
    """

    attempt: int
    text: str
    next_offset: int
    ended: bool


class LineageView(BaseModel):
    """A lineage and which of its versions answers.

    Attributes:
        active_job: The job that holds the lineage now.
    """

    name: str
    object: Literal["lineage"] = "lineage"
    base: JsonFields | None
    champion: int | None
    challenger: int | None
    active_job: str | None
    created_at: int


class VersionView(BaseModel):
    """A version; `manifest` tells its tasks, methods and metrics."""

    id: str
    object: Literal["version"] = "version"
    lineage: str
    number: int
    parent: int | None
    job_id: str | None
    is_champion: bool
    is_challenger: bool
    manifest: JsonFields
    created_at: int


class PromotionRequest(Body):
    """A version to be made champion.

    Attributes:
        lineage: Its lineage.
        version: Its number; without it, the challenger.
        expected_champion: The champion that the caller knows of (null: none); another one is
            refused with 409. Left out, any champion may be replaced.
    """

    lineage: Name
    version: Number | None = None
    expected_champion: Number | None = None


class RollbackRequest(Body):
    """A lineage whose champion before this one shall answer again.

    Attributes:
        lineage: Its name.
        expected_champion: The champion that is to go; where it went already, nothing is changed and
            the answer is 409. Left out, any champion may be replaced.
    """

    lineage: Name
    expected_champion: Number | None = None


class PromotionView(BaseModel):
    """One decision about who is champion, never edited afterwards.

    Attributes:
        previous: The champion before it.
        mirrored_at: When serving and the registry were told; null until then.
    """

    id: str
    object: Literal["promotion"] = "promotion"
    lineage: str
    sequence: int
    kind: Literal["promoted", "refused", "manual", "rollback", "adopted"]
    version: int
    previous: int | None
    job_id: str | None
    reasons: list[str]
    created_at: int
    mirrored_at: int | None


class Me(BaseModel):
    """What the key of the request may do."""

    object: Literal["key"] = "key"
    prefix: str
    name: str
    role: Literal["viewer", "submitter", "promoter", "admin"]
    lineages: list[str]
    requests_per_minute: int
    max_running_jobs: int | None
    max_queued_jobs: int | None
    created_at: int


class Health(BaseModel):
    """Whether the API answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether work gets done: what is reachable, and in a sentence each what is not."""

    status: Literal["ready", "not_ready"]
    database: bool
    controller: bool
    problems: list[str]


class ErrorDetail(BaseModel):
    """One of the things that are wrong, with a JSON pointer into the request's body."""

    detail: str
    pointer: str


class ErrorMember(BaseModel):
    """The error as OpenAI's clients read it."""

    message: str
    type: str
    param: str | None
    code: str | None


class ProblemDocument(BaseModel):
    """An error: RFC 9457, and the `error` member of OpenAI's dialect."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    errors: list[ErrorDetail]
    error: ErrorMember
