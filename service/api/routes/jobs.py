"""Jobs in the native dialect: the same routes for updates, studies and plans."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from ratchet.service.api.access import Submitter, Viewer
from ratchet.service.api.backend import Backend, Injected
from ratchet.service.api.event_stream import EventStream, sequence_of
from ratchet.service.api.guarded_route import GuardedRoute
from ratchet.service.api.job_logs import read_log
from ratchet.service.api.request_log import note_of
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
from ratchet.service.api.submissions import Asked, raw_spec, refuse_reserved, submit
from ratchet.service.api.views import decided_jobs, event_view, job_view, page_of
from ratchet.service.schemas.jobs import EventView, JobView, Kind, LogPage, Page, Status, Submission
from ratchet.service.store.earlier_requests import find_earlier
from ratchet.service.store.events import list_events
from ratchet.service.store.jobs import list_jobs
from ratchet.service.store.records import Job

MIN_LOG_BYTES, MAX_LOG_BYTES = 16, 1024 * 1024
MAX_OFFSET = 2**53
MAX_ATTEMPT = 10_000

LineageFilter = Annotated[str | None, Query(max_length=64)]
Offset = Annotated[int, Query(ge=0, le=MAX_OFFSET, description="In bytes")]
LogLimit = Annotated[int, Query(ge=MIN_LOG_BYTES, le=MAX_LOG_BYTES, description="In bytes")]
Attempt = Annotated[int | None, Query(ge=1, le=MAX_ATTEMPT)]


def job_routes(kind: Kind, path: str) -> APIRouter:
    """The routes of one kind of job.

    Args:
        kind: The kind.
        path: Where they lie, such as `/v1/updates`.
    """
    router = APIRouter(prefix=path, tags=[path.rpartition("/")[2]], route_class=GuardedRoute)
    _add_lists(router, kind, path)
    _add_single(router, kind)
    _add_told(router, kind)
    return router


def _shown(backend: Backend, job: Job) -> JobView:
    return job_view(decided_jobs(backend.db, [job])[0])


def _add_lists(router: APIRouter, kind: Kind, path: str) -> None:
    @router.post("", status_code=202, response_model=JobView)
    def create(
        body: Submission,
        request: Request,
        backend: Injected,
        caller: Submitter,
        idempotency_key: IdempotencyKey = None,
    ) -> Response:
        """Queue a job; the answer's `Location` is where to ask after it."""
        sent = body.model_dump(mode="json")
        job = find_earlier(backend.db, kind, sent, caller.key.id, idempotency_key)
        if job is None:
            refuse_reserved(body.metadata)
            raw, where = raw_spec(body)
            asked = Asked(kind, raw, where, body.priority, body.metadata, idempotency_key)
            job = submit(backend, caller, replace(asked, request=sent))
        note_of(request.scope).job = job.id
        return answer(_shown(backend, job), 202, {"Location": f"{path}/{job.id}"})

    @router.get("", response_model=Page[JobView])
    def list_all(
        request: Request,
        backend: Injected,
        caller: Viewer,
        lineage: LineageFilter = None,
        status: Status | None = None,
        after: After = None,
        limit: Limit = 20,
    ) -> Response:
        """The jobs, newest first; `metadata[name]=value` restricts the list further."""
        if after is not None:
            visible_job(backend, caller, after, kind, request)
        found = list_jobs(
            backend.db,
            kind=kind,
            lineage=lineage,
            globs=caller.globs,
            status=status,
            metadata=metadata_of(request),
            after=after,
            limit=limit + 1,
        )
        decided = decided_jobs(backend.db, found)
        return answer(page_of(decided, limit, job_view, lambda one: one.id))


def _add_single(router: APIRouter, kind: Kind) -> None:
    @router.get("/{job_id}", response_model=JobView)
    def get_one(job_id: Id, request: Request, backend: Injected, caller: Viewer) -> Response:
        """A job as it is now."""
        return answer(_shown(backend, visible_job(backend, caller, job_id, kind, request)))

    add_job_actions(router, kind, JobView, _shown)


def _add_told(router: APIRouter, kind: Kind) -> None:
    @router.get("/{job_id}/events", response_model=Page[EventView], responses=STREAMED)
    def events(
        job_id: Id,
        request: Request,
        backend: Injected,
        caller: Viewer,
        after: After = None,
        limit: Limit = 100,
        last_event_id: LastEventId = None,
    ) -> Response:
        """The events, oldest first; as a stream if `Accept` names `text/event-stream`."""
        job = visible_job(backend, caller, job_id, kind, request)
        start = sequence_of(last_event_id, job.id, "Last-Event-ID") or sequence_of(
            after, job.id, "after"
        )
        if wants_stream(request):
            return EventStream(backend, caller.key.id, job.id, start, event_view).response()
        found = list_events(backend.db, job.id, start, limit + 1)
        return answer(page_of(found, limit, event_view, lambda event: event.id))

    @router.get("/{job_id}/logs", response_model=LogPage)
    def logs(
        job_id: Id,
        request: Request,
        backend: Injected,
        caller: Viewer,
        attempt: Attempt = None,
        offset: Offset = 0,
        limit: LogLimit = 64 * 1024,
    ) -> Response:
        """What an attempt of the job printed, in pieces."""
        job = visible_job(backend, caller, job_id, kind, request)
        return answer(read_log(backend.settings.home, job, attempt, offset, limit))
