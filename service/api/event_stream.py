# pyright: reportUnknownMemberType=false
"""A job's events as server-sent events: from where the client was, until the job has ended."""

from __future__ import annotations

import json
import re
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio
from pydantic import BaseModel
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from ratchet.pipelines.errors import Problem
from ratchet.service.api.backend import Backend
from ratchet.service.api.problems import invalid_request
from ratchet.service.errors import OverloadedError
from ratchet.service.store.events import list_events
from ratchet.service.store.jobs import get_job
from ratchet.service.store.records import Event, Job

HEARTBEAT_SECONDS = 15
POLL_SECONDS = 0.5
SEND_SECONDS = 30
STREAM_SECONDS = 15 * 60
"""How long a stream lasts at most: then the client comes again, and its key is looked at again."""
MAX_STREAMS = 200
MAX_STREAMS_PER_KEY = 20
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
        key_id: Who asks.
        job_id: Whose they are.
        after: The last that the client has.
        view: How one is shown in the dialect that was asked in.
    """

    backend: Backend
    key_id: str
    job_id: str
    after: int
    view: Callable[[Event], BaseModel]

    def response(self) -> EventSourceResponse:
        """The stream; everything is freed when the client goes away."""
        return _CountedResponse(self)

    @contextmanager
    def place(self) -> Generator[None, None, None]:
        """Take one of the places for streams, as long as the block runs.

        Raises:
            OverloadedError: The server, or this key, has as many streams as may be.
        """
        metrics, keys = self.backend.metrics, self.backend.streams_by_key
        if metrics.streams_open() >= MAX_STREAMS:
            raise OverloadedError(f"{MAX_STREAMS} event streams are open; poll the list instead")
        if keys[self.key_id] >= MAX_STREAMS_PER_KEY:
            limit = f"the key has {MAX_STREAMS_PER_KEY} event streams open, and may have no more"
            raise OverloadedError(f"{limit}; close one, or poll the list instead")
        keys[self.key_id] += 1
        try:
            with metrics.streams.track_inprogress():
                yield
        finally:
            keys[self.key_id] -= 1
            if not keys[self.key_id]:
                del keys[self.key_id]

    async def messages(self) -> AsyncIterator[ServerSentEvent]:
        """What is sent: events as they come, and the end of the job."""
        sequence, end = self.after, time.monotonic() + STREAM_SECONDS
        while time.monotonic() < end:
            job, found = await run_in_threadpool(self._look, sequence)
            for event in found:
                sequence = event.sequence
                yield ServerSentEvent(self.view(event).model_dump_json(), id=event.id)
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


class _CountedResponse(EventSourceResponse):
    """A stream that takes its place in the event loop: nothing comes between look and count."""

    def __init__(self, stream: EventStream) -> None:
        super().__init__(
            stream.messages(), ping=HEARTBEAT_SECONDS, sep="\n", send_timeout=SEND_SECONDS
        )
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._stream.place():
            await super().__call__(scope, receive, send)
