# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
"""Records of the store as the native dialect shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel

from ratchet.service.schemas.audit import AuditEntryView
from ratchet.service.schemas.jobs import (
    Decision,
    EventView,
    JobView,
    LineageView,
    Page,
    PromotionView,
    VersionView,
)
from ratchet.service.store.database import Database
from ratchet.service.store.lineages import promotions_of
from ratchet.service.store.records import AuditEntry, Event, Job, Lineage, Promotion, Version

RESERVED = "ratchet."
"""What the API's own entries of a job's metadata begin with; clients neither set nor see them."""

AUDIT_PREFIX = "audit-"
"""What the id of an entry of the audit trail begins with."""

Record = TypeVar("Record")
View = TypeVar("View", bound=BaseModel)


def whole(seconds: float | None) -> int | None:
    """Unix seconds as they go over the wire."""
    return None if seconds is None else int(seconds)


@dataclass(frozen=True)
class DecidedJob:
    """A job, and what was decided about its version."""

    job: Job
    promotion: Promotion | None

    @property
    def id(self) -> str:
        """The job's id."""
        return self.job.id

    @property
    def decision(self) -> Decision | None:
        """The gate's decision, once an update has succeeded."""
        if self.job.kind != "update" or self.job.status != "succeeded":
            return None
        made = self.promotion
        if made is None:
            return Decision(decision="none")
        decision = "promoted" if made.kind == "promoted" else "refused"
        return Decision(decision=decision, version=made.version, reasons=made.reasons)


def job_view(decided: DecidedJob) -> JobView:
    """A job."""
    job = decided.job
    return JobView(
        id=job.id,
        object=job.kind,
        lineage=job.lineage,
        status=job.status,
        phase=job.phase,
        progress=job.progress,
        attempt=job.attempt,
        priority=job.priority,
        parent=job.parent,
        created_at=int(job.created_at),
        started_at=whole(job.started_at),
        finished_at=whole(job.finished_at),
        estimated_finish=whole(job.estimated_finish),
        spec=job.spec,
        result=job.result,
        promotion=decided.decision,
        error=job.error if job.status == "failed" else None,
        metadata=own_metadata(job),
        cancel_requested=job.wanted == "cancel",
        pause_requested=job.wanted == "pause",
    )


def own_metadata(job: Job) -> dict[str, str]:
    """The metadata that the client gave."""
    return {name: v for name, v in job.metadata.items() if not name.startswith(RESERVED)}


def decided_jobs(db: Database, jobs: Sequence[Job]) -> list[DecidedJob]:
    """Jobs with what the gate decided about their versions, from one query for all of them."""
    with_version = [job.id for job in jobs if job.kind == "update" and job.status == "succeeded"]
    found = promotions_of(db, with_version)
    return [DecidedJob(job, found.get(job.id)) for job in jobs]


def event_view(event: Event) -> EventView:
    """An event."""
    return EventView(
        id=event.id,
        created_at=int(event.created_at),
        level=event.level,
        type=event.type,
        message=event.message,
        data=event.data or {},
    )


def lineage_view(lineage: Lineage) -> LineageView:
    """A lineage."""
    return LineageView(
        name=lineage.name,
        base=None if lineage.base is None else {**lineage.base},
        champion=lineage.champion,
        challenger=lineage.challenger,
        active_job=lineage.active_job,
        created_at=int(lineage.created_at),
    )


def version_id(version: Version) -> str:
    """The name of a version."""
    return f"{version.lineage}@{version.number}"


def version_view(version: Version, lineage: Lineage) -> VersionView:
    """A version of a lineage."""
    return VersionView(
        id=version_id(version),
        lineage=version.lineage,
        number=version.number,
        parent=version.parent,
        job_id=version.job_id,
        is_champion=version.number == lineage.champion,
        is_challenger=version.number == lineage.challenger,
        manifest=version.manifest.model_dump(mode="json"),
        created_at=int(version.created_at),
    )


def promotion_id(promotion: Promotion) -> str:
    """The name of a decision: its lineage and its place there."""
    return f"{promotion.lineage}#{promotion.sequence}"


def promotion_view(promotion: Promotion) -> PromotionView:
    """A decision about a champion."""
    return PromotionView(
        id=promotion_id(promotion),
        lineage=promotion.lineage,
        sequence=promotion.sequence,
        kind=promotion.kind,
        version=promotion.version,
        previous=promotion.previous,
        job_id=promotion.job_id,
        reasons=promotion.reasons,
        created_at=int(promotion.created_at),
        mirrored_at=whole(promotion.mirrored_at),
    )


def audit_entry_id(entry: AuditEntry) -> str:
    """The name of an entry of the audit trail."""
    return f"{AUDIT_PREFIX}{entry.id}"


def audit_entry_view(entry: AuditEntry) -> AuditEntryView:
    """An entry of the audit trail."""
    return AuditEntryView(
        id=audit_entry_id(entry),
        created_at=int(entry.created_at),
        key_id=entry.key_id,
        key_prefix=entry.key_prefix,
        action=entry.action,
        target=entry.object,
        detail=entry.detail,
        address=entry.address,
    )


def page_of(
    records: Sequence[Record],
    limit: int,
    view: Callable[[Record], View],
    id_of: Callable[[Record], str],
) -> Page[View]:
    """A page.

    Args:
        records: One more than the page holds, if there is a further page.
        limit: How many the page holds.
        view: How one is shown.
        id_of: What the next page is asked for by.
    """
    shown = records[:limit]
    return Page(
        data=[view(record) for record in shown],
        has_more=len(records) > limit,
        first_id=id_of(shown[0]) if shown else None,
        last_id=id_of(shown[-1]) if shown else None,
    )
