"""The events of a job until it ends: by server-sent events, and by asking where these fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import httpx

from ratchet.service.client.asking import asked
from ratchet.service.client.event_stream import Message, MessageParser
from ratchet.service.client.patience import LONGEST_PAUSE_SECONDS, Patience, accepted
from ratchet.service.client.steps import Call, Close, Open, Pause, Query, Read, Step, Steps
from ratchet.service.schemas.jobs import ENDED, EventView, JobView

EVENT_STREAM = "text/event-stream"
SILENCE_SECONDS = 40.0
"""The server gives a sign every 15 seconds, so this is a lost connection."""

POLL_SECONDS = 0.5
PAGE_EVENTS = 100
TOO_MANY = 429
CROWDED_SECONDS = 60.0
"""How long events are asked for, seldom, where every stream that may be open is."""

Ask = Callable[[Call], Steps[httpx.Response]]

COLLECTIONS = {"ftjob": "updates", "study": "studies", "plan": "plans"}


@dataclass
class _Place:
    """How far a job was followed, and since when nobody answers."""

    cursor: str | None
    until: float | None
    patience: Patience
    streams: bool = True
    no_streams_until: float = 0.0

    @property
    def left(self) -> float:
        return float("inf") if self.until is None else self.until - time.monotonic()


def job_path(job_id: str) -> str:
    """The path of a job, whatever its kind."""
    return f"/v1/{COLLECTIONS.get(job_id.partition('-')[0], 'updates')}/{job_id}"


def follow(
    job_id: str,
    hand_over: Callable[[EventView], Step],
    after: str | None = None,
    until: float | None = None,
) -> Steps[bool]:
    """Hand over each event of a job once, in order, until the job has ended.

    Args:
        job_id: The job.
        hand_over: What is done with an event.
        after: Id of the last event that is known already.
        until: When to give up, by `time.monotonic()`; None never.

    Returns:
        Whether the job has ended.

    Raises:
        ServiceError: The job cannot be read, or the service was away for too long.
    """
    place = _Place(after, until, Patience(job_path(job_id)))
    while place.left > 0:
        try:
            # A stream is silent for seconds, so what ends sooner is asked for instead.
            is_crowded = time.monotonic() < place.no_streams_until
            if place.streams and not is_crowded and place.left > SILENCE_SECONDS:
                ended = yield from _streamed(job_id, hand_over, place)
            else:
                ended = yield from _polled(job_id, hand_over, place)
                if not ended:
                    pause = LONGEST_PAUSE_SECONDS if is_crowded else POLL_SECONDS
                    yield Pause(max(0.0, min(pause, place.left)))
        except httpx.TransportError as error:
            yield Close()
            yield from place.patience.wait_out(error, place.left)
            continue
        if ended:
            return True
    return False


def _streamed(job_id: str, hand_over: Callable[[EventView], Step], place: _Place) -> Steps[bool]:
    """Follow the stream until it ends; whether that was the job's end."""
    headers = {"Accept": EVENT_STREAM}
    if place.cursor is not None:
        headers["Last-Event-ID"] = place.cursor
    response: httpx.Response = yield Open(f"{job_path(job_id)}/events", headers, SILENCE_SECONDS)
    if response.status_code == TOO_MANY:
        place.no_streams_until = time.monotonic() + CROWDED_SECONDS
        yield Close()
        return False
    accepted(response)
    if not response.headers.get("content-type", "").startswith(EVENT_STREAM):
        place.streams = False  # a proxy that cannot
        yield Close()
        return False
    parser = MessageParser()
    while place.left > SILENCE_SECONDS:
        chunk: bytes | None = yield Read()
        if chunk is None:
            raise httpx.RemoteProtocolError("the stream was cut off")
        place.patience.answered()
        for message in parser.feed(chunk):
            if message.kind == "end":
                yield Close()
                return True
            yield from _handed(message, hand_over, place)
    yield Close()
    return False


def _handed(message: Message, hand_over: Callable[[EventView], Step], place: _Place) -> Steps[None]:
    event = EventView.model_validate_json(message.data)
    place.cursor = message.id or event.id
    yield hand_over(event)


def _polled(job_id: str, hand_over: Callable[[EventView], Step], place: _Place) -> Steps[bool]:
    """Read all events that there are; whether the job had ended before."""
    response = accepted((yield Call("GET", job_path(job_id))))
    job = JobView.model_validate_json(response.content)
    more = True
    while more:
        query: Query = {"after": place.cursor, "limit": PAGE_EVENTS}
        page = accepted((yield Call("GET", f"{job_path(job_id)}/events", query))).json()
        more = page["has_more"]
        for content in page["data"]:
            event = EventView.model_validate(content)
            place.cursor = event.id
            yield hand_over(event)
    place.patience.answered()
    return job.status in ENDED


def read_job(job_id: str, ask: Ask = asked) -> Steps[JobView]:
    """A job as it is now.

    Args:
        job_id: The job.
        ask: How an answer is come by.
    """
    response = yield from ask(Call("GET", job_path(job_id)))
    return JobView.model_validate_json(response.content)
