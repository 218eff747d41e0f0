"""Covers `pipelines.registry.s3.runs`, `pipelines.registry.s3.address`,
`pipelines.training.mirrored`, `pipelines.update.mirror`.

State on S3, end to end: a machine is lost with its whole home, and another one goes on.
"""

import json
import re
import shutil
import time

import pytest

from ratchet.pipelines.answering.predict import predict
from ratchet.pipelines.errors import (
    NotFoundError,
    ObjectStoreError,
    ObjectStoreUnreachableError,
    SpecError,
)
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.registry.manifest import read_manifest, verify_files
from ratchet.pipelines.registry.s3.attachment import attach_object_store
from ratchet.pipelines.training.events import Resumed, StageStarted, Warned
from ratchet.pipelines.update.evaluate import evaluate_version
from ratchet.pipelines.update.result import FORMAT
from tests.conformance.streams import differences
from tests.faulty_proxy import FaultyProxy
from tests.integration.drivers import events_seen, kill_with_children, outcome_of, start_driver
from tests.s3_server import CREDENTIALS
from tests.tiny import run_update, teach, texts_of, tiny_spec
from tests.waiting import PATIENCE_SECONDS, wait_for

pytestmark = pytest.mark.slow
METHODS = [{"type": "replay", "capacity": 12, "fraction": 0.5}, {"type": "ewc"}]
LOOK_SECONDS = 0.5
INSIDE_SECOND = re.compile(r"stage_001_step_0*[1-9]")
TRAINING = {"num_epochs": 18, "batch_size": 8, "checkpoint_every_steps": 8}


def spec_for(model, folder, num_workers=0, tasks=("banking", "home"), **sections):
    scaling = {"num_workers": num_workers, "cpus_per_worker": 1, "max_failures": 0}
    given = {"training": TRAINING, "scaling": scaling} | sections
    return tiny_spec(model, folder / "rows", "tiny", list(tasks), METHODS, **given)


def quick(model, folder, *tasks):
    training = {"num_epochs": 1, "checkpoint_every_steps": 2}
    return spec_for(model, folder, tasks=tasks, training=training)


@pytest.fixture
def home(bucket, tmp_path):
    """Makes homes that are copies of one store, by name."""

    def make(name):
        attach_object_store(tmp_path / name, f"s3://{bucket}/team")
        return tmp_path / name

    return make


@pytest.fixture
def keys(s3, bucket):
    """Lists what the store holds, below a folder and with an ending."""

    def found(folder="", ending=""):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"team/{folder}")
        names = [entry["Key"] for page in pages for entry in page.get("Contents", [])]
        return [name for name in names if name.endswith(ending)]

    return found


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_lost_machine_is_replaced_and_the_update_ends_bit_equal(
    tiny_model, tmp_path, home, keys, num_workers
):
    spec = spec_for(tiny_model, tmp_path, num_workers)
    teach_elsewhere(spec, tmp_path / "undisturbed")
    lost, other = home("lost"), home("other")
    driver = start_driver(spec, lost)

    def far():
        time.sleep(LOOK_SECONDS)  # looking costs the server as much as working
        return [key for key in keys("runs/", "/complete.json") if INSIDE_SECOND.search(key)]

    try:
        wait_for(far, driver)
    finally:
        kill_with_children(driver)
    shutil.rmtree(lost)
    assert keys("versions/", "manifest.json") == []
    again = start_driver(spec, other)
    log = other / "driver.log"
    assert again.wait(timeout=PATIENCE_SECONDS) == 0, log.read_text(encoding="utf-8")
    (resumed,) = [event for event in events_seen(other) if isinstance(event, Resumed)]
    assert (resumed.stages_done, resumed.epoch > 0) == (1, True)
    assert differences(outcome_of(tmp_path / "undisturbed"), outcome_of(other)) == []
    assert keys("runs/") == []
    third = home("third")
    folder = Home(third, None).registry.resolve("tiny@1")
    verify_files(folder, read_manifest(folder))
    assert differences(outcome_of(third), outcome_of(other)) == []


def teach_elsewhere(spec, home):
    """The same update, undisturbed, in a process like the one that is killed."""
    assert start_driver(spec, home).wait(timeout=PATIENCE_SECONDS) == 0


def test_each_update_grows_from_the_champion_wherever_the_one_before_ran(
    tiny_model, tmp_path, home
):
    one, two = home("one"), home("two")
    teach(one, quick(tiny_model, tmp_path, "banking"))
    shutil.rmtree(one)
    result = teach(two, quick(tiny_model, tmp_path, "home"))
    assert (result["version"], result["tasks"]) == (2, ["banking", "home"])
    three = home("three")
    registry = Home(three, None).registry
    assert (registry.versions("tiny"), registry.champion("tiny")) == ([1, 2], 2)
    answers = predict(three, "tiny", texts_of("balance", 2), "banking")
    assert {answer.label for answer in answers} <= {"balance", "transfer"}
    measured = evaluate_version(quick(tiny_model, tmp_path, "banking"), registry.resolve("tiny@1"))
    assert measured["version"] == 1


def test_a_result_is_given_again_where_the_machine_was_lost_right_after_the_promotion(
    tiny_model, tmp_path, home, s3, bucket
):
    spec = quick(tiny_model, tmp_path, "banking")
    first = teach(home("one"), spec)
    kept = json.dumps({"format": FORMAT, **first, "report": "/gone/report.html"}).encode()
    (run,) = [path.name for path in (tmp_path / "one" / "runs" / "tiny").iterdir()]
    s3.put_object(Bucket=bucket, Key=f"team/runs/tiny/{run}/result.json", Body=kept)
    events = []
    again = run_update(spec, Home(home("two"), None), events.append)
    assert again["version"] == 1
    assert "nothing is taught again" in events[0].message
    assert read_manifest(tmp_path / "two" / "versions" / "tiny" / "1").version == 1
    assert again["report"] == str(tmp_path / "two" / "versions" / "tiny" / "1" / "report.html")


def test_a_checkpoint_of_other_data_is_not_gone_on_with(tiny_model, tmp_path, home, keys):
    spec = spec_for(tiny_model, tmp_path)
    driver = start_driver(spec, home("lost"))
    try:
        wait_for(lambda: keys("runs/", "/complete.json"), driver)
    finally:
        kill_with_children(driver)
    path = tmp_path / "rows" / "banking.train.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(lines[:-1]) + "\n", encoding="utf-8")
    events = []
    run_update(spec, Home(home("other"), None), events.append)
    assert not [event for event in events if isinstance(event, Resumed)]
    assert keys("runs/") == []


def test_a_store_that_is_away_from_the_middle_on_loses_nothing(
    tiny_model, tmp_path, home, s3_endpoint, monkeypatch
):
    spec = quick(tiny_model, tmp_path, "banking", "home")
    one, events = home("one"), []
    with FaultyProxy(s3_endpoint) as proxy, monkeypatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", proxy.url)

        def take_away(event):
            events.append(event)
            if isinstance(event, StageStarted):
                proxy.take_away()

        with pytest.raises(ObjectStoreUnreachableError, match="run the same command again"):
            run_update(spec, Home(one, None), take_away)
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert [text for text in warnings if "a checkpoint is not in the store" in text]
    events.clear()
    result = run_update(spec, Home(one, None), events.append)
    assert result["version"] == 1
    assert not [event for event in events if isinstance(event, StageStarted)]  # nothing again


@pytest.mark.parametrize(
    ("store", "error", "words"),
    [
        ("s3://no-such-bucket-here/x", ObjectStoreError, "no bucket 'no-such-bucket-here'"),
        ("file:///x", SpecError, "s3://BUCKET/PREFIX"),
    ],
)
def test_a_wrong_store_is_said_at_the_start(s3, tmp_path, store, error, words):
    with pytest.raises(error, match=words) as raised:
        Home.at(tmp_path, None, store)
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in str(raised.value)
    assert not (tmp_path / "store.json").exists()


def test_data_is_read_from_the_same_server(tiny_model, tmp_path, home, s3, bucket):
    spec = quick(tiny_model, tmp_path, "banking")
    changes = {}
    for split in ("train", "validation", "test"):
        key = f"data/banking.{split}.jsonl"
        s3.upload_file(str(getattr(spec.tasks[0], split)), bucket, key)
        changes[split] = f"s3://{bucket}/{key}"
    task = spec.tasks[0].model_copy(update=changes)
    elsewhere = spec.model_copy(update={"tasks": (task,)})
    result = teach(home("one"), elsewhere)
    assert result["metrics"] == teach(tmp_path / "local", spec)["metrics"]
    missing = spec.model_copy(
        update={"tasks": (task.model_copy(update={"train": f"s3://{bucket}/data/none.jsonl"}),)}
    )
    with pytest.raises((NotFoundError, ValueError), match=r"none\.jsonl"):
        teach(home("two"), missing)
