"""Killed in the middle of a task, a worker or the driver is replaced and nothing is lost."""

import os
import signal
import threading

import pytest
import torch

from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.training.events import Resumed
from tests.conformance.streams import differences
from tests.integration.drivers import (
    events_seen,
    far_inside_second_task,
    kill_with_children,
    outcome_of,
    start_driver,
    train_workers,
)
from tests.tiny import run_update, tiny_spec
from tests.waiting import PATIENCE_SECONDS, wait_for

pytestmark = pytest.mark.slow
METHODS = [{"type": "replay", "capacity": 12, "fraction": 0.5}, {"type": "ewc"}]
TRAINING = {"num_epochs": 18, "batch_size": 8, "checkpoint_every_steps": 8}


def spec_for(model, folder, num_workers):
    return tiny_spec(
        model,
        folder / "rows",
        "tiny",
        ["banking", "home"],
        METHODS,
        training=TRAINING,
        scaling={"num_workers": num_workers, "cpus_per_worker": 1, "max_failures": 2},
    )


@pytest.fixture(scope="module")
def undisturbed(tiny_model, tmp_path_factory):
    """What an update ends with, by number of workers; each is run once."""
    found = {}

    def run(num_workers):
        if num_workers not in found:
            home = tmp_path_factory.mktemp(f"undisturbed_{num_workers}")
            run_update(spec_for(tiny_model, home, num_workers), Home(home.resolve(), None))
            found[num_workers] = outcome_of(home)
        return found[num_workers]

    return run


def far_apart(one, other, tolerance):
    """Names whose tensors differ by more than the tolerance, or whose other values differ."""
    assert one.keys() == other.keys()
    return [
        name
        for name in differences(one, other)
        if not isinstance(one[name], torch.Tensor)
        or not torch.allclose(one[name], other[name], rtol=0, atol=tolerance)
    ]


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_killed_worker_is_replaced_and_the_update_ends_the_same(
    tiny_model, tmp_path, cluster, undisturbed, num_workers
):
    wanted = undisturbed(num_workers)
    killed = []

    def kill():
        wait_for(lambda: far_inside_second_task(tmp_path))
        victims = wait_for(train_workers)
        os.kill(victims[0], signal.SIGKILL)
        killed.append(victims[0])

    killer = threading.Thread(target=kill)
    killer.start()
    events = []
    run_update(
        spec_for(tiny_model, tmp_path, num_workers), Home(tmp_path.resolve(), None), events.append
    )
    killer.join()
    assert killed
    (resumed,) = [event for event in events if isinstance(event, Resumed)]
    assert resumed.stages_done == 1
    assert (resumed.epoch, resumed.step_in_epoch) > (0, 0)
    found = outcome_of(tmp_path)
    if num_workers == 1:
        assert differences(wanted, found) == []
    else:
        assert far_apart(wanted, found, 1e-6) == []


def test_two_workers_give_the_same_twice(tiny_model, tmp_path, cluster, undisturbed):
    run_update(spec_for(tiny_model, tmp_path, 2), Home(tmp_path.resolve(), None))
    assert far_apart(undisturbed(2), outcome_of(tmp_path), 1e-6) == []


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_killed_driver_goes_on_when_it_is_started_again(
    tiny_model, tmp_path, cluster, undisturbed, num_workers
):
    wanted = undisturbed(num_workers)
    spec = spec_for(tiny_model, tmp_path, num_workers)
    driver = start_driver(spec, tmp_path)
    try:
        wait_for(lambda: far_inside_second_task(tmp_path), driver)
    finally:
        kill_with_children(driver)
    assert not (tmp_path / "versions" / "tiny" / "1" / "manifest.json").exists()
    again = start_driver(spec, tmp_path)
    assert again.wait(timeout=PATIENCE_SECONDS) == 0
    assert [event for event in events_seen(tmp_path) if isinstance(event, Resumed)]
    assert differences(wanted, outcome_of(tmp_path)) == []
