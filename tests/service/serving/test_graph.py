"""Covers, beside `graph`: `ingress`."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter

import httpx
import pytest

from ratchet.pipelines.errors import NotFoundError, VersionError
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.errors import UnavailableError
from ratchet.service.serving.graph import serving
from tests.tiny import TASKS, texts_of
from tests.waiting import free_port, wait_for

LIVE_SECONDS = 5.0
SERVE = """
import sys
from pathlib import Path
from ratchet.service.serving.graph import serve_lineages
serve_lineages(Path(sys.argv[1]), ["columns"], port=int(sys.argv[2]))
"""


@pytest.fixture(scope="module")
def home(lineages, tmp_path_factory):
    """A copy of the lineage `columns`, at version 1 of 2."""
    home = tmp_path_factory.mktemp("served")
    shutil.copytree(lineages / "versions" / "columns", home / "versions" / "columns")
    Registry(home).promote("columns", 1)
    return home


@pytest.fixture(scope="module")
def url(home):
    with serving(home, ["columns"], port=free_port()) as url:
        yield url


def health(url):
    return httpx.get(f"{url}/healthz").json()["lineages"][0]


class Clients:
    """Threads that send requests until they are stopped, and count the versions that answered."""

    def __init__(self, url, bodies):
        self.url = url
        self.answers = Counter()
        self.failures = []
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send, args=(body,)) for body in bodies]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _send(self, body):
        with httpx.Client(base_url=self.url, timeout=30) as client:
            while not self._stop.is_set():
                got = client.post("/v1/classify", json=body)
                with self._lock:
                    if got.status_code != 200:
                        self.failures.append(got.text)
                        continue
                    for row in got.json()["data"]:
                        self.answers[body["model"], row["route"]["version"]] += 1


def bodies():
    texts = [text for label in TASKS["banking"] for text in texts_of(label, 3)]
    return [
        {"model": "auto", "input": texts},
        {"model": "banking", "input": texts[0]},
        {"model": "home", "input": texts},
        {"model": "banking@1", "input": texts[:2]},
        {"model": "columns", "input": texts[1]},
        {"model": "auto", "input": texts[2]},
    ]


@pytest.mark.slow
def test_concurrent_requests_get_what_each_would_get_alone(url):
    alone = [httpx.post(f"{url}/v1/classify", json=body).json()["data"] for body in bodies()]
    together = [None] * len(alone)

    def send(place):
        for _ in range(10):
            got = httpx.post(f"{url}/v1/classify", json=bodies()[place], timeout=30)
            together[place] = got.json()["data"]
            for row, expected in zip(together[place], alone[place], strict=True):
                assert row["label"] == expected["label"]
                assert row["route"]["task"] == expected["route"]["task"]

    threads = [threading.Thread(target=send, args=(place,)) for place in range(len(alone))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(together)


@pytest.mark.slow
def test_a_promotion_goes_live_in_time_without_one_failed_request(home, url):
    registry = Registry(home)
    with Clients(url, bodies()) as clients:
        for number in (2, 1, 2):
            time.sleep(0.5)
            registry.promote("columns", number)
            wait_for(lambda number=number: health(url)["serving"] == number, None, LIVE_SECONDS)
        time.sleep(0.5)
    assert clients.failures == []
    assert clients.answers["auto", 1] > 0
    assert clients.answers["auto", 2] > 0
    assert clients.answers["banking@1", 2] == 0
    got = httpx.post(f"{url}/v1/classify", json={"model": "kitchen", "input": "recipe"})
    assert got.json()["data"][0]["route"] == {
        "task": "kitchen",
        "version": 2,
        "score": 1.0,
        "margin": 1.0,
        "abstained": False,
    }


@pytest.mark.slow
def test_a_broken_champion_is_refused_and_health_says_why(home, url):
    registry = Registry(home)
    before = health(url)["serving"]
    folder = home / "versions" / "columns" / "3"
    shutil.copytree(home / "versions" / "columns" / "2", folder)
    content = bytearray((folder / "router.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "router.safetensors").write_bytes(content)
    with Clients(url, bodies()) as clients:
        registry.promote("columns", 3)
        wait_for(lambda: "3" in health(url)["refused"], None, LIVE_SECONDS)
    assert clients.failures == []
    assert "router.safetensors" in health(url)["refused"]["3"]
    assert health(url)["serving"] == before
    assert httpx.get(f"{url}/healthz").json()["status"] == "degraded"
    registry.promote("columns", before)
    wait_for(lambda: httpx.get(f"{url}/healthz").json()["status"] == "ok", None, LIVE_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b'{"input": []}', 400),
        (b'{"inputs": "x"}', 400),
        (b'{"input": "x", "model": "bankin"}', 404),
        (json.dumps({"input": ["quark " * 20], "strict": True}).encode(), 422),
    ],
)
def test_bad_requests_are_answered_in_json_through_serve(url, body, status):
    got = httpx.post(f"{url}/v1/classify", content=body)
    assert got.status_code == status
    assert got.headers["content-type"] == "application/problem+json"
    assert got.json()["error"]["message"]


@pytest.mark.slow
def test_text_of_no_task_is_answered_without_a_label(url):
    got = httpx.post(f"{url}/v1/classify", json={"input": "quark " * 20})
    [row] = got.json()["data"]
    assert (got.status_code, row["label"], row["route"]["abstained"]) == (200, None, True)


@pytest.mark.slow
def test_a_taken_port_and_a_missing_lineage_are_said_before_anything_starts(home, url):
    with (
        pytest.raises(UnavailableError, match="is taken"),
        serving(home, ["columns"], port=int(url.rpartition(":")[2])),
    ):
        pass
    with pytest.raises(NotFoundError, match="Did you mean columns"), serving(home, ["column"]):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_blocking_server_stops_cleanly_when_told_to(home, number):
    port = free_port()
    command = [sys.executable, "-c", SERVE, str(home), str(port)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=os.environ)
    lines = iter(process.stderr.readline, "")
    assert any(f"http://127.0.0.1:{port}" in line and "Serving" in line for line in lines)
    got = httpx.post(f"http://127.0.0.1:{port}/v1/classify", json={"input": "send money"})
    assert got.status_code == 200
    process.send_signal(number)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == 0
    assert "Traceback" not in rest
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/livez")


def test_a_server_that_cannot_load_anything_says_why(home, tmp_path):
    folder = tmp_path / "versions" / "columns"
    shutil.copytree(home / "versions" / "columns" / "1", folder / "1")
    Registry(tmp_path).promote("columns", 1)
    (folder / "1" / "weights.safetensors").write_bytes(b"")
    with (
        pytest.raises(VersionError, match=r"weights\.safetensors"),
        serving(tmp_path, ["columns"], port=free_port()),
    ):
        pass
