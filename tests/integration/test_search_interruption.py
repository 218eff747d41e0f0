"""Killed in the middle of a search, an update goes on with the next training and ends the same."""

import json
import os
import signal
import threading

import pytest

from ratchet.pipelines.registry.home import Home
from tests.conformance.streams import differences
from tests.integration.drivers import (
    found_below,
    kill_with_children,
    outcome_of,
    start_driver,
    train_workers,
)
from tests.tiny import run_update, tiny_spec
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
METHODS = [{"type": "replay", "capacity": 12}, {"type": "ewc", "strength": "auto"}]
TRAINING = {"num_epochs": 12, "batch_size": 8, "learning_rate": "auto"}
DECAY = {"learning_rates": [1e-5, 3e-3, 1e-2], "tolerance": 0.0, "start": {"ewc": 1e6}}
TRAININGS_BEFORE = 4
"""Three of the first task, so that the next is the first of the second task."""


def spec_for(model, folder, num_workers):
    return tiny_spec(
        model,
        folder / "rows",
        "tiny",
        ["banking", "home"],
        METHODS,
        training=TRAINING,
        stability_decay=DECAY,
        scaling={"num_workers": num_workers, "cpus_per_worker": 1, "max_failures": 2},
    )


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    """Outcome and trainings of an update that nobody disturbs, inside this process."""
    return undisturbed_run(tiny_model, tmp_path_factory.mktemp("undisturbed"), 0)


def undisturbed_run(model, home, num_workers):
    """The same with so many workers: threads, and so the last bits, are a worker's own."""
    run_update(spec_for(model, home, num_workers), Home(home.resolve(), None))
    return outcome_of(home), trainings(home)


def trainings(home):
    """Task, setting and score of every training of the searches, in order."""
    events = [
        json.loads(line)
        for path in found_below(home, "events.jsonl")
        for line in path.read_text(encoding="utf-8").splitlines()
    ]
    return [
        (event["task"], event["setting"], event["score"])
        for event in events
        if event["kind"] == "search_trained"
    ]


def far_inside_a_search(home):
    return len(trainings(home)) >= TRAININGS_BEFORE


def assert_as_undisturbed(home, undisturbed):
    outcome, wanted = undisturbed
    assert differences(outcome, outcome_of(home)) == []
    found = trainings(home)
    # The training that was cut off, or had not been written down, is done again; no other is.
    assert found[-len(wanted) + TRAININGS_BEFORE + 1 :] == wanted[TRAININGS_BEFORE + 1 :]
    assert len(wanted) <= len(found) <= len(wanted) + 1


def test_a_killed_driver_goes_on_with_the_next_training(tiny_model, tmp_path, undisturbed):
    spec = spec_for(tiny_model, tmp_path, 0)
    driver = start_driver(spec, tmp_path)
    try:
        wait_for(lambda: far_inside_a_search(tmp_path), driver)
    finally:
        kill_with_children(driver)
    assert Home(tmp_path.resolve(), None).registry.versions("tiny") == []
    run_update(spec, Home(tmp_path.resolve(), None))
    assert_as_undisturbed(tmp_path, undisturbed)


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_is_replaced_and_goes_on_with_the_next_training(
    tiny_model, tmp_path, tmp_path_factory
):
    undisturbed = undisturbed_run(tiny_model, tmp_path_factory.mktemp("on_ray"), 1)
    killed = []

    def kill():
        wait_for(lambda: far_inside_a_search(tmp_path))
        (worker,) = train_workers()
        os.kill(worker, signal.SIGKILL)
        killed.append(worker)

    killer = threading.Thread(target=kill)
    killer.start()
    run_update(spec_for(tiny_model, tmp_path, 1), Home(tmp_path.resolve(), None))
    killer.join()
    assert killed
    assert_as_undisturbed(tmp_path, undisturbed)
