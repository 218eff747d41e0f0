"""A job's events as server-sent events: from where the client was, until the job has ended."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from pipelines.errors import Problem
from service.api.backend import Backend
from service.api.problems import invalid_request
from service.api.views import event_view
from service.errors import OverloadedError
from service.store.events import list_events
from service.store.jobs import get_job
from service.store.records import Event, Job

HEARTBEAT_SECONDS = 15
POLL_SECONDS = 0.5
SEND_SECONDS = 30
STREAM_SECONDS = 15 * 60
"""How long a stream lasts at most: then the client comes again, and its key is looked at again."""
MAX_STREAMS = 200
EVENTS_AT_ONCE = 100

_EVENT_ID = re.compile(r"^ftevent-([0-9a-f]{24})-([0-9]{6,12})$")


def sequence_of(event_id: str | None, job_id: str, field: str) -> int:
    """The number of an event of a job; 0 for none.

    Raises:
        InvalidRequestError: It is no event of that job.
    """
    if not event_id:
        return 0
    match = _EVENT_ID.match(event_id)
    if match is None or match[1] != job_id.rpartition("-")[2]:
        raise invalid_request([Problem("", f"{field}: no event of {job_id}", event_id[:80])])
    return int(match[2])


@dataclass(frozen=True)
class EventStream:
    """The events of a job that are to come.

    Attributes:
        backend: Where they come from.
        job_id: Whose they are.
        after: The last that the client has.
    """

    backend: Backend
    job_id: str
    after: int

    def response(self) -> EventSourceResponse:
        """The stream; everything is freed when the client goes away.

        Raises:
            OverloadedError: There are as many streams as the server keeps up.
        """
        if self.backend.metrics.streams_open() >= MAX_STREAMS:
            raise OverloadedError(f"{MAX_STREAMS} event streams are open; poll the list instead")
        return EventSourceResponse(
            self._counted(), ping=HEARTBEAT_SECONDS, sep="\n", send_timeout=SEND_SECONDS
        )

    async def _counted(self) -> AsyncIterator[ServerSentEvent]:
        with self.backend.metrics.streams.track_inprogress():
            async for message in self._messages():
                yield message

    async def _messages(self) -> AsyncIterator[ServerSentEvent]:
        sequence, end = self.after, time.monotonic() + STREAM_SECONDS
        while time.monotonic() < end:
            job, found = await run_in_threadpool(self._look, sequence)
            for event in found:
                sequence = event.sequence
                yield _message(event)
            if len(found) == EVENTS_AT_ONCE:
                continue
            if job.has_ended:
                yield ServerSentEvent(json.dumps({"status": job.status}), event="end")
                return
            await anyio.sleep(POLL_SECONDS)

    def _look(self, after: int) -> tuple[Job, list[Event]]:
        """The job first: once it has ended, the events read afterwards are all that there are."""
        job = get_job(self.backend.db, self.job_id)
        return job, list_events(self.backend.db, self.job_id, after, EVENTS_AT_ONCE)


def _message(event: Event) -> ServerSentEvent:
    return ServerSentEvent(event_view(event).model_dump_json(), id=event.id)
