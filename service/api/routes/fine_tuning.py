"""Updates in OpenAI's dialect."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter, Request, Response

from ratchet.service.api.access import Submitter, Viewer
from ratchet.service.api.backend import Backend, Injected
from ratchet.service.api.event_stream import EventStream, sequence_of
from ratchet.service.api.fine_tuning import FineTuning
from ratchet.service.api.guarded_route import GuardedRoute
from ratchet.service.api.openai_views import (
    checkpoint,
    checkpoint_id,
    fine_tuning_event,
    fine_tuning_job,
)
from ratchet.service.api.request_log import note_of
from ratchet.service.api.request_places import told_in_its_words
from ratchet.service.api.routes.job_actions import add_job_actions
from ratchet.service.api.routes.parameters import (
    STREAMED,
    After,
    Id,
    IdempotencyKey,
    LastEventId,
    Limit,
    answer,
    metadata_of,
    visible_job,
    wants_stream,
)
from ratchet.service.api.submissions import submit
from ratchet.service.api.views import decided_jobs, page_of
from ratchet.service.schemas.jobs import Page
from ratchet.service.schemas.openai import (
    FineTuningCheckpoint,
    FineTuningEvent,
    FineTuningJob,
    FineTuningRequest,
)
from ratchet.service.store.earlier_requests import find_earlier
from ratchet.service.store.events import list_latest_events
from ratchet.service.store.jobs import list_jobs
from ratchet.service.store.records import Job

router = APIRouter(prefix="/v1/fine_tuning/jobs", tags=["openai"], route_class=GuardedRoute)


def _shown(backend: Backend, job: Job) -> FineTuningJob:
    return fine_tuning_job(decided_jobs(backend.db, [job])[0])


@router.post("", response_model=FineTuningJob)
def create(
    body: FineTuningRequest,
    request: Request,
    backend: Injected,
    caller: Submitter,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Queue an update that teaches one task from an uploaded file."""
    sent = body.model_dump(mode="json")
    job = find_earlier(backend.db, "update", sent, caller.key.id, idempotency_key)
    if job is None:
        asked = FineTuning(backend, caller, body).asked(idempotency_key)
        with told_in_its_words(body):
            job = submit(backend, caller, replace(asked, request=sent))
    note_of(request.scope).job = job.id
    return answer(_shown(backend, job))


@router.get("", response_model=Page[FineTuningJob])
def list_all(
    request: Request, backend: Injected, caller: Viewer, after: After = None, limit: Limit = 20
) -> Response:
    """The updates, newest first; `metadata[name]=value` restricts the list."""
    if after is not None:
        visible_job(backend, caller, after, "update", request)
    found = list_jobs(
        backend.db,
        kind="update",
        globs=caller.globs,
        metadata=metadata_of(request),
        after=after,
        limit=limit + 1,
    )
    decided = decided_jobs(backend.db, found)
    return answer(page_of(decided, limit, fine_tuning_job, lambda one: one.id))


@router.get("/{job_id}", response_model=FineTuningJob)
def get_one(job_id: Id, request: Request, backend: Injected, caller: Viewer) -> Response:
    """An update as it is now."""
    return answer(_shown(backend, visible_job(backend, caller, job_id, "update", request)))


add_job_actions(router, "update", FineTuningJob, _shown)


@router.get("/{job_id}/events", response_model=Page[FineTuningEvent], responses=STREAMED)
def events(
    job_id: Id,
    request: Request,
    backend: Injected,
    caller: Viewer,
    after: After = None,
    limit: Limit = 20,
    last_event_id: LastEventId = None,
) -> Response:
    """The events, newest first; as a stream, oldest first, under `Accept: text/event-stream`."""
    job = visible_job(backend, caller, job_id, "update", request)
    if wants_stream(request):
        start = sequence_of(last_event_id, job.id, "Last-Event-ID")
        return EventStream(backend, caller.key.id, job.id, start, fine_tuning_event).response()
    before = sequence_of(after, job.id, "after") or None
    found = list_latest_events(backend.db, job.id, before, limit + 1)
    return answer(page_of(found, limit, fine_tuning_event, lambda event: event.id))


@router.get("/{job_id}/checkpoints", response_model=Page[FineTuningCheckpoint])
def checkpoints(
    job_id: Id,
    request: Request,
    backend: Injected,
    caller: Viewer,
    after: After = None,
    limit: Limit = 10,
) -> Response:
    """The points that the job can go on from, newest first."""
    job = visible_job(backend, caller, job_id, "update", request)
    known = None if after is None else after.replace("ftckpt_", "ftevent-", 1)
    before = sequence_of(known, job.id, "after") or None
    found = list_latest_events(backend.db, job.id, before, limit + 1, "checkpoint")
    return answer(page_of(found, limit, lambda one: checkpoint(job, one), checkpoint_id))
