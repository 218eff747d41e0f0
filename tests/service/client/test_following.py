import json
import time

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.client import AsyncClient, Client, UnfinishedError
from service.client.event_stream import Message, MessageParser
from service.errors import JobNotFoundError, problem_document
from tests.service.client.scripted import JOB, Script, call, event, listed, ok

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
