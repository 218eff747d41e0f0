"""Parameters sharded over Ray Train workers: updates, a resume and the version, end to end."""

import os
import signal
import threading

import pytest
import torch
from safetensors.torch import load_file

from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.training.events import Resumed
from ratchet.pipelines.version import WEIGHTS_FILE, load_version
from tests.integration.drivers import far_inside_second_task, outcome_of
from tests.integration.test_interruption import far_apart, train_workers
from tests.tiny import run_update, tiny_spec
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
METHODS = [{"type": "replay", "capacity": 12, "fraction": 0.5}, {"type": "ewc"}]


def spec_for(model, folder, sharding, tasks=("banking", "home"), num_epochs=4):
    return tiny_spec(
        model,
        folder / "rows",
        "tiny",
        list(tasks),
        METHODS,
        training={"num_epochs": num_epochs, "batch_size": 8, "checkpoint_every_steps": 8},
        scaling={"num_workers": 2, "cpus_per_worker": 1, "sharding": sharding, "max_failures": 2},
    )


def version(home, number):
    return Home(home.resolve(), None).registry.path("tiny", number)


def test_a_sharded_update_is_gated_and_writes_the_version_that_a_whole_one_writes(
    still_model, tmp_path, cluster
):
    results = {}
    for sharding in ("data", "fsdp"):
        home = tmp_path / sharding
        results[sharding] = run_update(
            spec_for(still_model, home, sharding), Home(home.resolve(), None)
        )
    assert results["fsdp"]["promoted"]
    assert results["fsdp"]["accuracy_matrix"] == results["data"]["accuracy_matrix"]
    whole, parts = (version(tmp_path / sharding, 1) for sharding in ("data", "fsdp"))
    for file in (WEIGHTS_FILE, "methods/ewc.safetensors"):
        wanted, found = load_file(whole / file), load_file(parts / file)
        assert wanted.keys() == found.keys()
        for name, tensor in wanted.items():
            if not name.endswith(".key.bias"):  # rounding, made large by AdamW
                torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=1e-3)
    model = load_version(parts).model
    assert not model.is_sharded


def test_a_sharded_update_goes_on_from_a_version_and_after_a_killed_worker(
    still_model, tmp_path, cluster
):
    found = {}
    for name in ("undisturbed", "killed"):
        home = tmp_path / name
        run_update(spec_for(still_model, home, "fsdp", ["banking"]), Home(home.resolve(), None))
        spec = spec_for(still_model, home, "fsdp", ["home", "kitchen"], num_epochs=18)
        killer = threading.Thread(target=kill_one, args=(home,))
        if name == "killed":
            killer.start()
        events = []
        run_update(spec, Home(home.resolve(), None), events.append)
        if name == "killed":
            killer.join()
            (resumed,) = [event for event in events if isinstance(event, Resumed)]
            assert resumed.step_in_epoch + resumed.epoch > 0
        found[name] = outcome_of(home, 2)
    assert far_apart(found["undisturbed"], found["killed"], 1e-6) == []


def kill_one(home):
    wait_for(lambda: far_inside_second_task(home))
    os.kill(train_workers()[0], signal.SIGKILL)
