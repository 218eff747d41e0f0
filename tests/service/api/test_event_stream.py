"""Events as a stream, over a real server."""

import json
import threading
import time

import httpx
import pytest
from openai.types.fine_tuning import FineTuningJobEvent

from ratchet.service.api import event_stream
from ratchet.service.store.asking import ask
from ratchet.service.store.finishing import succeed
from ratchet.service.store.records import NewEvent

pytestmark = pytest.mark.slow

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
def client(address, served):
    headers = {"Authorization": f"Bearer {served.secrets['submitter']}", **STREAM}
    with httpx.Client(base_url=address, headers=headers, timeout=20) as made:
        yield made


def read(lines, until=lambda _: False):
    """The messages among the lines of a stream, up to one that satisfies a condition."""
    found, fields = [], {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
            continue
        if fields:
            found.append(fields)
            if until(fields):
                break
        fields = {}
    return found


def test_a_stream_gives_what_was_and_what_comes_and_ends_with_the_job(client, served):
    job_id = served.submit()
    job = served.tell(served.claim(), "before")

    def go_on():
        time.sleep(0.7)
        succeed(served.db, served.lease, served.tell(job, "after"), {})

    thread = threading.Thread(target=go_on)
    thread.start()
    with client.stream("GET", f"/v1/updates/{job_id}/events") as response:
        messages = read(response.iter_lines())
    thread.join()

    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    told = [json.loads(message["data"]) for message in messages[:-1]]
    assert [event["message"] for event in told][2:] == ["before", "after", "Succeeded"]
    assert [message["id"] for message in messages[:-1]] == [event["id"] for event in told]
    assert messages[-1] == {"event": "end", "data": '{"status": "succeeded"}'}


@pytest.mark.parametrize("path", ["/v1/updates", "/v1/fine_tuning/jobs"])
def test_a_stream_goes_on_after_the_last_event_that_was_seen(client, served, path):
    job_id = served.submit()
    with client.stream("GET", f"{path}/{job_id}/events") as response:
        (first,) = read(response.iter_lines(), lambda _: True)
    ask(served.db, job_id, "cancel")

    with client.stream(
        "GET", f"{path}/{job_id}/events", headers={"Last-Event-ID": first["id"]}
    ) as response:
        rest = read(response.iter_lines())

    assert [message.get("event", "message") for message in rest] == ["message", "end"]
    assert rest[0]["id"].endswith("-000002")


def test_a_stream_speaks_the_dialect_that_it_was_asked_in(client, served):
    job_id = served.submit()
    job = served.tell(served.claim(), NewEvent("saved", type="checkpoint"))
    succeed(served.db, served.lease, job, {})
    types = {}
    for path in ("/v1/updates", "/v1/fine_tuning/jobs"):
        with client.stream("GET", f"{path}/{job_id}/events") as response:
            told = [message["data"] for message in read(response.iter_lines())[:-1]]
        types[path] = [json.loads(data)["type"] for data in told]

    assert types["/v1/updates"] == ["status", "status", "checkpoint", "status"]
    assert types["/v1/fine_tuning/jobs"] == ["message"] * 4
    assert [FineTuningJobEvent.model_validate_json(data).id for data in told]


def test_more_events_than_are_read_at_once_all_come_in_order(client, served):
    job_id = served.submit()
    job = served.tell(served.claim(), *(f"step {n}" for n in range(250)))
    succeed(served.db, served.lease, job, {})

    with client.stream("GET", f"/v1/updates/{job_id}/events") as response:
        messages = read(response.iter_lines())

    assert [int(message["id"][-6:]) for message in messages[:-1]] == list(range(1, 254))


@pytest.mark.parametrize("given", ["1", "ftevent-x", "ftevent-" + "0" * 24 + "-000001", "ü"])
def test_a_last_event_of_another_job_is_refused(client, served, given):
    job_id = served.submit()

    response = client.get(f"/v1/updates/{job_id}/events", headers={"Last-Event-ID": given.encode()})

    assert response.status_code == 400


def test_a_quiet_stream_is_kept_alive(client, served, monkeypatch):
    monkeypatch.setattr(event_stream, "HEARTBEAT_SECONDS", 0.2)
    job_id = served.submit()

    with client.stream("GET", f"/v1/updates/{job_id}/events") as response:
        lines = response.iter_lines()
        beats = [line for line in (next(lines) for _ in range(12)) if line.startswith(":")]

    assert len(beats) >= 2


def test_a_stream_does_not_outlast_its_time(client, served, monkeypatch):
    monkeypatch.setattr(event_stream, "STREAM_SECONDS", 0.5)
    job_id = served.submit()

    with client.stream("GET", f"/v1/updates/{job_id}/events") as response:
        messages = read(response.iter_lines())

    assert [message.get("event") for message in messages] == [None]


def test_a_client_that_goes_away_leaves_nothing_behind(client, served, address):
    job_id = served.submit()
    metrics = served.app.state.backend.metrics
    for _ in range(20):
        with client.stream("GET", f"/v1/updates/{job_id}/events") as response:
            lines = response.iter_lines()  # held: without it the stream is closed at once
            read(lines, lambda _: True)
            assert metrics.streams_open() >= 1
    end = time.monotonic() + 10
    while metrics.streams_open() and time.monotonic() < end:
        time.sleep(0.05)

    assert metrics.streams_open() == 0


def test_a_key_has_only_so_many_streams_and_others_have_theirs(client, served, monkeypatch):
    monkeypatch.setattr(event_stream, "MAX_STREAMS_PER_KEY", 1)
    path = f"/v1/updates/{served.submit()}/events"
    admin = {"Authorization": f"Bearer {served.secrets['admin']}"}
    with client.stream("GET", path) as response:
        lines = response.iter_lines()
        read(lines, lambda _: True)
        other = client.get(path)
        with client.stream("GET", path, headers=admin) as of_another:
            assert of_another.status_code == 200
    end = time.monotonic() + 10
    while served.app.state.backend.streams_by_key and time.monotonic() < end:
        time.sleep(0.05)

    assert (other.status_code, other.json()["error"]["code"]) == (429, "overloaded")
    assert "the key has 1 event streams open" in other.json()["detail"]
    assert served.app.state.backend.streams_by_key == {}
    with client.stream("GET", path) as again:
        assert again.status_code == 200


def test_no_more_streams_are_opened_than_can_be_kept_up(client, served, monkeypatch):
    monkeypatch.setattr(event_stream, "MAX_STREAMS", 1)
    job_id = served.submit()
    with client.stream("GET", f"/v1/updates/{job_id}/events") as response:
        lines = response.iter_lines()
        read(lines, lambda _: True)
        other = client.get(f"/v1/updates/{job_id}/events")

    assert (other.status_code, other.json()["error"]["code"]) == (429, "overloaded")
