"""What the store gives and takes: frozen records, one a table, with the table's fields."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.service.schemas.jobs import JobError, Progress
from ratchet.service.schemas.version_facts import VersionFacts

Kind = Literal["update", "study", "plan"]
Status = Literal["queued", "running", "paused", "succeeded", "failed", "cancelled"]
Wanted = Literal["cancel", "pause"]
Level = Literal["info", "warn", "error"]
EventType = Literal["message", "metrics", "status", "checkpoint"]
Decision = Literal["promoted", "refused"]
PromotionKind = Literal["promoted", "refused", "manual", "rollback", "adopted"]
Role = Literal["viewer", "submitter", "promoter", "admin"]

ENDED: tuple[Status, ...] = ("succeeded", "failed", "cancelled")
ROLES: tuple[Role, ...] = ("viewer", "submitter", "promoter", "admin")
_JOB_PREFIXES: Mapping[Kind, str] = {"update": "ftjob", "study": "study", "plan": "plan"}


def new_id(prefix: str) -> str:
    """A fresh id: the prefix and 24 hexadecimal digits."""
    return f"{prefix}-{secrets.token_hex(12)}"


@dataclass(frozen=True)
class NewJob:
    """A job that is asked for.

    Attributes:
        kind: What it is.
        spec: The spec, as it was given.
        lineage: The lineage that it is about; an update must name one.
        priority: Higher ones are claimed first.
        key_id: The key that asks, or None.
        metadata: The client's own words.
        not_before: Unix seconds before which it is not claimed.
        told: What its events begin with, after that it was accepted.
        request: What the client sent, by which the same request is known again: a spec may be made
            of more than that. By default everything above but the key and the events.
    """

    kind: Kind
    spec: Mapping[str, Json]
    lineage: str | None = None
    priority: int = 0
    key_id: str | None = None
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    not_before: float = 0.0
    told: Sequence[NewEvent] = ()
    request: Mapping[str, Json] | None = None

    def new_id(self) -> str:
        """A fresh id of this kind of job."""
        return new_id(_JOB_PREFIXES[self.kind])


@dataclass(frozen=True)
class Job:
    """An update, a study or a plan as the database holds it; times in Unix seconds.

    Attributes:
        wanted: What a user asked of it while it ran.
        body_hash: SHA-256 of what was asked for, in hexadecimal.
        attempt: The attempt that runs or ran last; 0 before the first.
        num_lost: Attempts that were lost to the job's surroundings.
        parent: The champion that the last attempt started from.
        submission: Id of the last attempt at the launcher: `<job id>-<attempt>`.
        events_offset: Bytes of the job folder's `events.jsonl` that are recorded.
        num_events: Sequence number of the last event.
        revision: Grows by one with every change.
    """

    id: str
    kind: Kind
    lineage: str | None
    status: Status
    phase: str
    progress: Progress | None
    wanted: Wanted | None
    spec: JsonObject
    body_hash: str
    priority: int
    key_id: str | None
    metadata: dict[str, str]
    attempt: int
    num_lost: int
    not_before: float
    parent: int | None
    submission: str | None
    events_offset: int
    num_events: int
    result: JsonObject | None
    error: JobError | None
    created_at: float
    started_at: float | None
    finished_at: float | None
    estimated_finish: float | None
    revision: int

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


@dataclass(frozen=True)
class NewEvent:
    """Something that happened to a job.

    Attributes:
        message: One sentence.
        level: How serious it is.
        type: What kind of event.
        data: Numbers and names, as JSON.
        created_at: When it happened in Unix seconds, or None for now.
    """

    message: str
    level: Level = "info"
    type: EventType = "message"
    data: Mapping[str, Json] | None = None
    created_at: float | None = None


@dataclass(frozen=True)
class Event:
    """An event as the database holds it, numbered from 1 within its job."""

    job_id: str
    sequence: int
    created_at: float
    level: Level
    type: EventType
    message: str
    data: JsonObject | None

    @property
    def id(self) -> str:
        """The id by which clients know the event."""
        return f"ftevent-{self.job_id.rpartition('-')[2]}-{self.sequence:06d}"


@dataclass(frozen=True)
class Lineage:
    """A lineage: its aliases, and the job that holds it."""

    name: str
    base: dict[str, str] | None
    champion: int | None
    challenger: int | None
    active_job: str | None
    revision: int
    created_at: float


@dataclass(frozen=True)
class NewVersion:
    """A version that a job has written, and what the gate said of it.

    Attributes:
        number: Its number in the lineage.
        parent: The version that it grew from, or None.
        manifest: Its manifest without the list of files.
        decision: Whether the gate lets it become champion.
        reasons: The gate's reasons.
        base: The base model, for a lineage's first version.
    """

    number: int
    parent: int | None
    manifest: VersionFacts
    decision: Decision
    reasons: Sequence[str] = ()
    base: Mapping[str, str] | None = None


@dataclass(frozen=True)
class KnownVersion:
    """A version that lies in the home already."""

    number: int
    parent: int | None
    manifest: VersionFacts
    created_at: float


@dataclass(frozen=True)
class Version:
    """A version as the database holds it."""

    lineage: str
    number: int
    job_id: str | None
    parent: int | None
    manifest: VersionFacts
    created_at: float


@dataclass(frozen=True)
class Promotion:
    """A decision about a lineage's champion.

    Attributes:
        sequence: Number within the lineage, from 1.
        version: The version that was decided about.
        previous: The champion before it.
        mirrored_at: When the registry's aliases followed, or None.
    """

    id: int
    lineage: str
    sequence: int
    kind: PromotionKind
    version: int
    previous: int | None
    job_id: str | None
    key_id: str | None
    reasons: list[str]
    created_at: float
    mirrored_at: float | None


@dataclass(frozen=True)
class File:
    """An upload; `deleted_at` is None while it can be used."""

    id: str
    sha256: str
    filename: str
    purpose: str
    bytes: int
    created_at: float
    key_id: str | None
    deleted_at: float | None


@dataclass(frozen=True)
class Key:
    """An API key, without anything that its secret could be guessed from.

    Attributes:
        prefix: The part of the secret that names the key.
        lineages: Globs of the lineages that it sees.
    """

    id: str
    prefix: str
    name: str
    role: Role
    lineages: list[str]
    max_running_jobs: int | None
    max_queued_jobs: int | None
    requests_per_minute: int | None
    created_at: float
    revoked_at: float | None
    last_used_at: float | None

    def may(self, role: Role) -> bool:
        """Whether the key's role includes another."""
        return ROLES.index(self.role) >= ROLES.index(role)

    def sees(self, lineage: str | None) -> bool:
        """Whether a lineage is one of the key's; what belongs to none is seen by `*` only."""
        return any(glob == "*" or fnmatchcase(lineage or "", glob) for glob in self.lineages)


@dataclass(frozen=True)
class Lease:
    """The right to act, as it was when it was given; every write checks the term again."""

    name: str
    holder: str
    term: int
    expires_at: float


@dataclass(frozen=True)
class AuditEntry:
    """Something that was done through the API, or to a key.

    Attributes:
        key_prefix: The part of the key's secret that names it.
    """

    id: int
    created_at: float
    key_id: str | None
    key_prefix: str | None
    action: str
    object: str
    detail: JsonObject | None
    address: str
