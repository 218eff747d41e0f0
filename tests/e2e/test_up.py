"""Covers `service.cli.up`.

The whole service as a new user meets it: started, asked in three ways, followed, stopped.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

import httpx
import pytest
import yaml

from ratchet.service.client import Client
from ratchet.service.up.layout import Layout, free_port
from ratchet.service.up.stray_processes import end_stray_processes, find_stray_processes
from tests.tiny import TASKS, texts_of, write_task

pytestmark = pytest.mark.slow

PORTS = ("api", "router", "mlflow", "ray", "dashboard")
JOB_SECONDS = 600
NO_VARIABLES = ("RATCHET_URL", "RATCHET_API_KEY", "RATCHET_HOME", "RAY_ADDRESS", "RAY_AUTH_MODE")


class Up:
    """`ratchet up` in a process of its own."""

    def __init__(self, home, data, *options):
        self.layout = Layout(home.resolve())
        ports = [f"--{name}-port={free_port()}" for name in PORTS]
        words = ["up", "--json", "--home", str(home), "--data-root", str(data), *ports, *options]
        environment = {name: os.environ[name] for name in os.environ if name not in NO_VARIABLES}
        self.stderr = (home.parent / "up.log").open("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "ratchet.service.cli", *words],
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            text=True,
            env=environment,
        )

    def said(self):
        self.stderr.flush()
        self.stderr.seek(0)
        return self.stderr.read()

    def until_ready(self):
        line = self.process.stdout.readline()
        assert line, self.said()
        return {part["part"]: part for part in json.loads(line)["parts"]}

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=300)
        return self.process.returncode

    def left(self):
        return find_stray_processes(self.layout.mark, {})


@pytest.fixture
def start(tmp_path):
    started = []

    def begin(*options):
        started.append(Up(tmp_path / "home", tmp_path, *options))
        return started[-1]

    yield begin
    for up in started:
        if up.process.poll() is None:
            up.process.kill()
            up.process.communicate()
        end_stray_processes(up.layout.mark, {}, 5)
        up.stderr.close()


@pytest.fixture
def spec(tmp_path, tiny_model):
    """A spec of the task that is named, teaching which takes about a second."""
    model = tmp_path / "model"
    shutil.copytree(tiny_model, model)

    def write(task):
        content = {
            "lineage": "tiny",
            "model": {"name": str(model)},
            "tasks": [write_task(tmp_path / "data", task, TASKS[task])],
            "methods": [{"type": "lora", "rank": 4, "per_task": True}],
            "scaling": {"num_workers": 0},
            "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
            "training": {
                "num_epochs": 4,
                "learning_rate": 3e-3,
                "batch_size": 16,
                "max_length": 24,
                "precision": "fp32",
            },
        }
        path = tmp_path / f"{task}.yaml"
        path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
        return path

    return write


def ratchet(home, *words):
    environment = {name: os.environ[name] for name in os.environ if name not in NO_VARIABLES}
    return subprocess.run(
        [sys.executable, "-m", "ratchet.service.cli", *map(str, words), "--home", str(home)],
        capture_output=True,
        text=True,
        env=environment,
        timeout=JOB_SECONDS,
        check=False,
    )


def submit_raw(url, key, spec):
    """What curl would send: the data uploaded, the spec as YAML with the files' ids."""
    content = yaml.safe_load(spec.read_text(encoding="utf-8"))
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=url, headers=headers, timeout=60) as http:
        for split in ("train", "validation", "test"):
            path = content["tasks"][0][split]
            with open(path, "rb") as file:
                form = {"purpose": "fine-tune"}
                sent = http.post("/v1/files", files={"file": file}, data=form)
            content["tasks"][0][split] = sent.raise_for_status().json()["id"]
        body = {"spec_yaml": yaml.safe_dump(content)}
        made = http.post("/v1/updates", json=body)
        assert made.status_code == 202, made.text
        job = http.get(made.headers["location"]).raise_for_status().json()
        deadline = time.monotonic() + JOB_SECONDS
        while job["status"] in ("queued", "running") and time.monotonic() < deadline:
            time.sleep(0.5)
            job = http.get(made.headers["location"]).raise_for_status().json()
    return job


def served_version(url, task, expected):
    """Ask the router until the version answers; its answers to all of a task's texts."""
    deadline = time.monotonic() + 60
    texts = [text for label in TASKS[task] for text in texts_of(label, 8)]
    while True:
        got = httpx.post(f"{url}/v1/classify", json={"model": task, "input": texts}, timeout=60)
        rows = got.json().get("data", [])
        if rows and rows[0]["route"]["version"] == expected:
            return rows
        assert time.monotonic() < deadline, got.text
        time.sleep(0.5)


def test_three_ways_in_and_one_way_out(start, spec, tmp_path):
    home = tmp_path / "home"
    up = start("--no-ray")
    parts = up.until_ready()
    assert set(parts) == {"mlflow", "api", "controller", "router"}
    router = parts["router"]["url"]
    empty = httpx.post(f"{router}/v1/classify", json={"input": "send money"}, timeout=60)
    assert empty.status_code == 503

    done = ratchet(home, "submit", spec("banking"), "--wait", "--json")
    assert done.returncode == 0, done.stderr
    job = json.loads(done.stdout)
    assert (job["status"], job["promotion"]["decision"]) == ("succeeded", "promoted")
    assert len(served_version(router, "banking", 1)) == 16

    with Client(home=home) as client:
        heard = []
        second = client.submit(spec("home"))
        assert client.wait(second.id, timeout=JOB_SECONDS, on_event=heard.append).status == (
            "succeeded"
        )
        assert [event.id for event in heard] == [e.id for e in client.past_events(second.id)]
        served_version(router, "home", 2)
        answer = client.predict(texts_of("alarm", 3), model="home")
        assert {row.route.version for row in answer.data} == {2}

    key = (home / "service" / "admin.key").read_text(encoding="utf-8").strip()
    third = submit_raw(parts["api"]["url"], key, spec("kitchen"))
    assert third["status"] == "succeeded", third["error"]
    served_version(router, "kitchen", 3)

    back = ratchet(home, "rollback", "tiny", "--json")
    assert json.loads(back.stdout) == {"lineage": "tiny", "champion": 2, "previous": 3}
    served_version(router, "home", 2)
    looked = json.loads(ratchet(home, "doctor", "--json").stdout)["findings"]
    found = {finding["name"]: finding["status"] for finding in looked}
    for part in ("database", "controller", "api", "key", "key file", "router"):
        assert found[part] == "ok", looked

    assert up.stop() == 0, up.said()
    assert up.left() == []
    refused = ratchet(home, "promote", "tiny@3")
    assert refused.returncode == 1
    assert "ratchet up" in refused.stderr


def test_on_ray_a_job_outlives_its_supervisor(start, spec, tmp_path):
    home = tmp_path / "home"
    up = start("--no-mlflow", "--no-router")
    assert set(up.until_ready()) == {"ray", "api", "controller"}
    with Client(home=home) as client:
        job = client.submit(spec("banking"))
        while client.get(job.id).status == "queued":
            time.sleep(0.2)
    up.process.kill()
    up.process.communicate()
    deadline = time.monotonic() + 60
    while up.left():
        assert time.monotonic() < deadline, up.left()
        time.sleep(0.5)

    again = start("--no-mlflow", "--no-router")
    again.until_ready()
    with Client(home=home) as client:
        ended = client.wait(job.id, timeout=JOB_SECONDS)
        assert (ended.status, ended.promotion.decision) == ("succeeded", "promoted")
        assert [version.number for version in client.versions("tiny")] == [1]
    assert again.stop() == 0, again.said()
    assert again.left() == []
