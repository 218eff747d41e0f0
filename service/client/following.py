"""The events of a job until it ends: by server-sent events, and by asking where these fail."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from service.api.native_schemas import ENDED, EventView, JobView
from service.client.asking import asked
from service.client.event_stream import Message, MessageParser
from service.client.failures import error_of, unreachable
from service.client.steps import Call, Close, Open, Pause, Read, Step, Steps

EVENT_STREAM = "text/event-stream"
SILENCE_SECONDS = 40.0
"""The server gives a sign every 15 seconds, so this is a lost connection."""

POLL_SECONDS = 0.5
PATIENCE_SECONDS = 120.0
"""How long a service may be away while a job is followed: it is started again by itself."""

LONGEST_PAUSE_SECONDS = 5.0
PAGE_EVENTS = 100
TOO_MANY = 429
CROWDED_SECONDS = 60.0
"""How long events are asked for, seldom, where every stream that may be open is."""
AWAY = (TOO_MANY, 500, 502, 503, 504)

COLLECTIONS = {"ftjob": "updates", "study": "studies", "plan": "plans"}


@dataclass
class _Place:
    """How far a job was followed, and since when nobody answers."""

    cursor: str | None
    until: float | None
    away_since: float | None = None
    num_failures: int = 0
    streams: bool = True
    no_streams_until: float = 0.0

    def answered(self) -> None:
        self.away_since, self.num_failures = None, 0

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
    place = _Place(after, until)
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
            yield from _wait_out(place, error, job_id)
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
    if response.status_code in AWAY:
        raise httpx.RemoteProtocolError(f"answered {response.status_code}")
    if response.status_code >= 400:
        raise error_of(response)
    if not response.headers.get("content-type", "").startswith(EVENT_STREAM):
        place.streams = False  # a proxy that cannot
        yield Close()
        return False
    parser = MessageParser()
    while place.left > SILENCE_SECONDS:
        chunk: bytes | None = yield Read()
        if chunk is None:
            raise httpx.RemoteProtocolError("the stream was cut off")
        place.answered()
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
    response = yield Call("GET", job_path(job_id))
    job = JobView.model_validate_json(_content(response))
    more = True
    while more:
        query: dict[str, Any] = {"after": place.cursor, "limit": PAGE_EVENTS}
        response = yield Call("GET", f"{job_path(job_id)}/events", query)
        page = _json(response)
        more = page["has_more"]
        for content in page["data"]:
            event = EventView.model_validate(content)
            place.cursor = event.id
            yield hand_over(event)
    place.answered()
    return job.status in ENDED


def _content(response: httpx.Response) -> bytes:
    if response.status_code in AWAY:
        raise httpx.RemoteProtocolError(f"answered {response.status_code}")
    if response.status_code >= 400:
        raise error_of(response)
    return response.content


def _json(response: httpx.Response) -> Any:
    _content(response)
    return response.json()


def _wait_out(place: _Place, error: httpx.TransportError, job_id: str) -> Steps[None]:
    """Pause, longer each time, until patience is at its end."""
    now = time.monotonic()
    place.away_since = place.away_since or now
    if now - place.away_since > PATIENCE_SECONDS:
        raise unreachable(job_path(job_id), error) from error
    place.num_failures += 1
    pause = min(LONGEST_PAUSE_SECONDS, 0.2 * 2**place.num_failures)
    yield Pause(max(0.0, min(pause, place.left)))


def read_job(job_id: str) -> Steps[JobView]:
    """A job as it is now."""
    response = yield from asked(Call("GET", job_path(job_id)))
    return JobView.model_validate_json(response.content)
