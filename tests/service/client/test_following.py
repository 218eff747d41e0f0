"""Covers, beside `following`: `event_stream`, `patience`, `steps`."""

import json
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.service.client import AsyncClient, Client, UnfinishedError, operations
from ratchet.service.client.event_stream import Message, MessageParser
from ratchet.service.client.patience import Patience
from ratchet.service.client.steps import Call, Emit, Pause
from ratchet.service.errors import JobNotFoundError, UnavailableError, problem_document
from tests.service.client.scripted import JOB, URL, Script, call, event, listed, ok

BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])
END = "event: end\ndata: {}\n\n"
STREAM = {"content-type": "text/event-stream; charset=utf-8"}


def said(*numbers, end=False):
    parts = [
        f"id: {event(number)['id']}\ndata: {json.dumps(event(number))}\n\n: alive\n\n"
        for number in numbers
    ]
    return httpx.Response(200, headers=STREAM, text="".join(parts) + (END if end else ""))


def numbers_of(events):
    return [found.created_at for found in events]


@BOTH
def test_events_are_followed_to_the_end_and_taken_up_after_a_cut(kind):
    script = Script(said(1, 2), httpx.ConnectError("away"), httpx.Response(503), said(3, end=True))
    assert numbers_of(call(kind, script, "events", JOB["id"])) == [1, 2, 3]
    seen = [request.headers.get("last-event-id") for request in script.requests]
    assert seen == [None, *[event(2)["id"]] * 3]
    assert script.requests[0].headers["accept"] == "text/event-stream"


@BOTH
def test_events_are_asked_for_where_every_stream_is_taken(kind):
    def answer(request):
        if request.headers["accept"] == "text/event-stream":
            return httpx.Response(429, json={"title": "20 streams are open"})
        if request.url.path.endswith("/events"):
            return listed([event(1)])
        return ok({**JOB, "status": "succeeded"})

    script = Script(answer)
    assert numbers_of(call(kind, script, "events", JOB["id"])) == [1]
    assert len(script.requests) == 3  # the stream, the job, its events


@BOTH
def test_events_are_asked_for_where_there_is_no_stream(kind):
    pages = [listed([event(1)], has_more=True), listed([event(2)]), listed([event(3)])]
    jobs = [ok(JOB), ok({**JOB, "status": "succeeded"})]

    def answer(request):
        if request.headers["accept"] == "text/event-stream":
            return listed([])
        return (pages if request.url.path.endswith("/events") else jobs).pop(0)

    script = Script(answer)
    assert numbers_of(call(kind, script, "events", JOB["id"])) == [1, 2, 3]
    asked = [
        request.url.params.get("after")
        for request in script.requests[1:]
        if request.url.path.endswith("/events")
    ]
    assert asked == [None, event(1)["id"], event(2)["id"]]


@BOTH
def test_events_of_no_job_are_an_error_at_once(kind):
    document = problem_document(JobNotFoundError("no such job"), "/")
    script = Script(httpx.Response(404, json=document))
    with pytest.raises(JobNotFoundError, match="no such job"):
        call(kind, script, "events", JOB["id"])
    assert len(script.requests) == 1


@BOTH
def test_waiting_tells_of_every_event_and_returns_the_ended_job(kind):
    ended = {**JOB, "status": "succeeded", "promotion": {"decision": "refused", "version": 3}}
    script = Script(said(1), said(2, end=True), ok(ended))
    heard = []
    job = call(kind, script, "wait", JOB["id"], on_event=heard.append)
    assert numbers_of(heard) == [1, 2]
    assert (job.status, job.promotion.decision) == ("succeeded", "refused")


@BOTH
def test_waiting_ends_when_the_time_is_over(kind):
    def answer(request):
        return listed([]) if request.url.path.endswith("/events") else ok(JOB)

    began = time.monotonic()
    with pytest.raises(UnfinishedError, match=r"is running .*it goes on"):
        call(kind, Script(answer), "wait", JOB["id"], timeout=1.2)
    assert 1.1 < time.monotonic() - began < 6


def test_a_coroutine_may_listen():
    heard = []

    async def listen(found):
        heard.append(found.created_at)

    script = Script(said(1, end=True), ok({**JOB, "status": "failed"}))
    assert call(AsyncClient, script, "wait", JOB["id"], on_event=listen).status == "failed"
    assert heard == [1]


def log_server(attempts, job):
    """Serves the text of each attempt five characters at a time; the latest by default."""

    def answer(request):
        if not request.url.path.endswith("/logs"):
            return ok(job)
        attempt = int(request.url.params.get("attempt", len(attempts)))
        offset = int(request.url.params["offset"])
        text = attempts[attempt - 1][offset : offset + 5]
        ended = offset + len(text) >= len(attempts[attempt - 1])
        return ok(
            {
                "attempt": attempt,
                "text": text,
                "next_offset": offset + len(text),
                "ended": ended,
            }
        )

    return answer


@BOTH
@pytest.mark.parametrize(
    ("named", "shown"),
    [({}, "second one"), ({"attempt": 1}, "the first"), ({"follow": True}, "second one")],
)
def test_logs_come_whole_in_pieces(kind, named, shown):
    job = {**JOB, "attempt": 2, "status": "failed"}
    found = call(kind, log_server(["the first", "second one"], job), "logs", JOB["id"], **named)
    assert "".join(found) == shown
    assert len(found) > 1


def taken(steps, handler):
    """What an operation emits and how long it pauses, without a second passing."""
    emitted, pauses = [], []
    step = next(steps)
    while True:
        try:
            match step:
                case Call():
                    found = answered(handler, step)
                    step = steps.throw(found) if isinstance(found, Exception) else steps.send(found)
                    continue
                case Pause():
                    pauses.append(step.seconds)
                case Emit():
                    emitted.append(step.value)
            step = steps.send(None)
        except StopIteration:
            return emitted, pauses


def answered(handler, step):
    query = {name: value for name, value in step.query.items() if value is not None}
    request = httpx.Request(step.method, URL + step.path, params=query)
    found = handler(request)
    if isinstance(found, httpx.Response):
        found.request = request
    return found


class Restarted:
    """A server of logs that is away for some requests, after some that it answered."""

    def __init__(self, num_answered, failures):
        self.server = log_server(["first", "second one"], {**JOB, "attempt": 2, "status": "failed"})
        self.num_answered, self.failures = num_answered, list(failures)

    def __call__(self, request):
        self.num_answered -= 1
        away = self.num_answered < 0 and self.failures
        return self.failures.pop(0) if away else self.server(request)


@pytest.mark.parametrize("num_answered", [2, 3, 4])
@pytest.mark.parametrize("failure", [httpx.ConnectError("refused"), httpx.Response(503)])
def test_followed_logs_wait_for_a_service_that_is_started_again(num_answered, failure):
    server = Restarted(num_answered, [failure] * 12)
    emitted, pauses = taken(operations.logs(JOB["id"], follow=True), server)
    assert "".join(emitted) == "second one"
    assert pauses == [0.4, 0.8, 1.6, 3.2, *[5.0] * 8]


@pytest.mark.parametrize(("num_answered", "follow"), [(0, True), (0, False), (2, False)])
def test_a_service_that_never_answered_or_is_asked_once_is_given_up_on_soon(num_answered, follow):
    server = Restarted(num_answered, [httpx.ConnectError("refused")] * 99)
    with pytest.raises(UnavailableError, match="refused"):
        taken(operations.logs(JOB["id"], follow=follow), server)
    assert len(server.failures) == 95


def test_logs_of_no_job_are_an_error_at_once_though_they_were_read_before():
    document = problem_document(JobNotFoundError("no such job"), "/")
    server = Restarted(2, [httpx.Response(404, json=document)])
    with pytest.raises(JobNotFoundError, match="no such job"):
        taken(operations.logs(JOB["id"], follow=True), server)


def test_patience_ends_after_two_minutes_and_begins_anew_with_each_answer():
    now = [1000.0]
    patience = Patience("/v1/updates/x", lambda: now[0])
    error = httpx.ConnectError("refused")
    assert list(patience.wait_out(error, at_most=0.1)) == [Pause(0.1)]
    now[0] += 120
    assert list(patience.wait_out(error)) == [Pause(0.8)]
    patience.answered()
    now[0] += 1
    assert list(patience.wait_out(error)) == [Pause(0.4)]
    now[0] += 121
    with pytest.raises(UnavailableError, match=r"/v1/updates/x .*refused"):
        list(patience.wait_out(error))


TEXT = st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(TEXT, max_size=5), st.data(), st.sampled_from(["\n", "\r\n"]))
def test_messages_are_the_same_however_the_bytes_are_cut(texts, data, newline):
    expected = [Message("message", str(place), text) for place, text in enumerate(texts)]
    lines = [f"id: {one.id}{newline}data: {one.data}{newline}{newline}" for one in expected]
    content = ": alive\n\n".join(lines).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=6)))
    parser = MessageParser()
    found = []
    for start, stop in zip([0, *cuts], [*cuts, len(content)], strict=True):
        found += parser.feed(content[start:stop])
    assert found == expected


def test_a_message_of_several_lines_is_one():
    [found] = MessageParser().feed(b"event: x\ndata: a\ndata:b\n\n")
    assert found == Message("x", "", "a\nb")
