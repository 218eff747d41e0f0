"""The tables. Times are Unix seconds in UTC; the migrations yield exactly these."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    CheckConstraint,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    Named,
    Table,
    TypedColumns,
    UniqueConstraint,
    text,
)

from ratchet.service.schemas.jobs import JobError, Progress
from ratchet.service.schemas.version_facts import VersionFacts
from ratchet.service.store.columns import AnyJson, Document, Number, Words

METADATA = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


class KeyColumns(TypedColumns):
    """API keys. The secret is kept as its SHA-256 only."""

    id: Named[str] = Column(Words, primary_key=True)
    prefix: Named[str] = Column(Words, unique=True)
    hash: Named[str] = Column(Words)
    name: Named[str] = Column(Words)
    role: Named[str] = Column(Words)
    lineages: Named[Any] = Column(AnyJson, nullable=False)
    max_running_jobs: Named[int | None]
    max_queued_jobs: Named[int | None]
    requests_per_minute: Named[int | None]
    created_at: Named[float]
    revoked_at: Named[float | None]
    last_used_at: Named[float | None]


class LineageColumns(TypedColumns):
    """Lineages: who is champion, who waits, and which job holds the lineage."""

    name: Named[str] = Column(Words, primary_key=True)
    base: Named[Any] = Column(AnyJson, nullable=True)
    champion: Named[int | None]
    challenger: Named[int | None]
    active_job: Named[str | None] = Column(Words)
    revision: Named[int]
    created_at: Named[float]


class JobColumns(TypedColumns):
    """Updates, studies and plans."""

    id: Named[str] = Column(Words, primary_key=True)
    kind: Named[str] = Column(Words)
    lineage: Named[str | None] = Column(Words)
    status: Named[str] = Column(Words)
    phase: Named[str] = Column(Words)
    progress: Named[Progress | None] = Column(Document(Progress), nullable=True)
    wanted: Named[str | None] = Column(Words)
    spec: Named[Any] = Column(AnyJson, nullable=False)
    body_hash: Named[str] = Column(Words)
    priority: Named[int]
    key_id: Named[str | None] = Column(Words, ForeignKey("keys.id"))
    metadata: Named[Any] = Column(AnyJson, nullable=False)
    attempt: Named[int]
    num_lost: Named[int]
    not_before: Named[float]
    parent: Named[int | None]
    submission: Named[str | None] = Column(Words)
    events_offset: Named[int] = Column(Number)
    num_events: Named[int]
    result: Named[Any] = Column(AnyJson, nullable=True)
    error: Named[JobError | None] = Column(Document(JobError), nullable=True)
    created_at: Named[float]
    started_at: Named[float | None]
    finished_at: Named[float | None]
    estimated_finish: Named[float | None]
    revision: Named[int]


class EventColumns(TypedColumns):
    """What happened to a job, numbered from 1 without gaps."""

    job_id: Named[str] = Column(Words, ForeignKey("jobs.id"), primary_key=True)
    sequence: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    created_at: Named[float]
    level: Named[str] = Column(Words)
    type: Named[str] = Column(Words)
    message: Named[str] = Column(Words)
    data: Named[Any] = Column(AnyJson, nullable=True)


class VersionColumns(TypedColumns):
    """The versions of each lineage; the folder of a version lies in the home."""

    lineage: Named[str] = Column(Words, ForeignKey("lineages.name"), primary_key=True)
    number: Named[int] = Column(Integer, primary_key=True, autoincrement=False)
    job_id: Named[str | None] = Column(Words, ForeignKey("jobs.id"))
    parent: Named[int | None]
    manifest: Named[VersionFacts] = Column(Document(VersionFacts), nullable=False)
    created_at: Named[float]


class PromotionColumns(TypedColumns):
    """Every decision about a lineage's champion, numbered from 1 without gaps."""

    id: Named[int] = Column(Number, primary_key=True)
    lineage: Named[str] = Column(Words)
    sequence: Named[int]
    kind: Named[str] = Column(Words)
    version: Named[int]
    previous: Named[int | None]
    job_id: Named[str | None] = Column(Words, ForeignKey("jobs.id"))
    key_id: Named[str | None] = Column(Words, ForeignKey("keys.id"))
    reasons: Named[Any] = Column(AnyJson, nullable=False)
    created_at: Named[float]
    mirrored_at: Named[float | None]


class FileColumns(TypedColumns):
    """Uploads; their content lies in the home by its hash."""

    id: Named[str] = Column(Words, primary_key=True)
    sha256: Named[str] = Column(Words)
    filename: Named[str] = Column(Words)
    purpose: Named[str] = Column(Words)
    bytes: Named[int] = Column(Number)
    created_at: Named[float]
    key_id: Named[str | None] = Column(Words, ForeignKey("keys.id"))
    deleted_at: Named[float | None]


class IdempotencyColumns(TypedColumns):
    """Which job an idempotency key led to; `key_id` is empty for a request without a key."""

    key_id: Named[str] = Column(Words, primary_key=True)
    idempotency_key: Named[str] = Column(Words, primary_key=True)
    body_hash: Named[str] = Column(Words)
    job_id: Named[str] = Column(Words, ForeignKey("jobs.id", deferrable=True, initially="DEFERRED"))
    created_at: Named[float]


class LeaseColumns(TypedColumns):
    """Who may act. The term grows with every change of hands and never goes back."""

    name: Named[str] = Column(Words, primary_key=True)
    holder: Named[str] = Column(Words)
    term: Named[int]
    expires_at: Named[float]


class AuditColumns(TypedColumns):
    """Who did what from where."""

    id: Named[int] = Column(Number, primary_key=True)
    created_at: Named[float]
    key_id: Named[str | None] = Column(Words)
    action: Named[str] = Column(Words)
    object: Named[str] = Column(Words)
    detail: Named[Any] = Column(AnyJson, nullable=True)
    address: Named[str] = Column(Words)


_IS_RUNNING_UPDATE = text("kind = 'update' AND status = 'running'")
_IS_JOBS_OWN = text("kind IN ('promoted', 'refused')")
_IS_UNMIRRORED = text("mirrored_at IS NULL")

keys = Table("keys", METADATA, KeyColumns)
lineages = Table("lineages", METADATA, LineageColumns)
jobs = Table(
    "jobs",
    METADATA,
    JobColumns,
    CheckConstraint(
        "status IN ('queued', 'running', 'paused', 'succeeded', 'failed', 'cancelled')",
        name="status",
    ),
    Index("ix_jobs_queue", "status", "priority", "created_at"),
    Index("ix_jobs_newest", "created_at", "id"),
    Index("ix_jobs_lineage", "lineage", "created_at"),
    Index("ix_jobs_key", "key_id", "status"),
    Index("ix_jobs_body", "body_hash", "key_id"),
    # One update at a time a lineage, should everything above this line be wrong.
    Index(
        "uq_jobs_running_update",
        "lineage",
        unique=True,
        sqlite_where=_IS_RUNNING_UPDATE,
        postgresql_where=_IS_RUNNING_UPDATE,
    ),
)
events = Table("events", METADATA, EventColumns)
versions = Table("versions", METADATA, VersionColumns)
promotions = Table(
    "promotions",
    METADATA,
    PromotionColumns,
    UniqueConstraint("lineage", "sequence"),
    ForeignKeyConstraint(["lineage", "version"], ["versions.lineage", "versions.number"]),
    Index(
        "uq_promotions_job",
        "job_id",
        unique=True,
        sqlite_where=_IS_JOBS_OWN,
        postgresql_where=_IS_JOBS_OWN,
    ),
    Index(
        "ix_promotions_unmirrored",
        "lineage",
        "sequence",
        sqlite_where=_IS_UNMIRRORED,
        postgresql_where=_IS_UNMIRRORED,
    ),
)
files = Table("files", METADATA, FileColumns, Index("ix_files_sha256", "sha256"))
idempotency = Table("idempotency", METADATA, IdempotencyColumns)
leases = Table("leases", METADATA, LeaseColumns)
audit = Table("audit", METADATA, AuditColumns, Index("ix_audit_object", "object"))
