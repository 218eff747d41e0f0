"""A study whose driver, worker or Ray is killed: it goes on, and repeats or loses no trial."""

import contextlib
import json
import os
import signal
import threading
import time

import psutil
import pytest
import yaml

from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.tracking.mlflow_client import mlflow_client
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.search.study_run import Request
from ratchet.pipelines.tuning.tuning import run_study
from tests.integration.drivers import found_below
from tests.integration.studies import GRID, ended_trials, raw_spec, run_command
from tests.waiting import wait_for

pytestmark = pytest.mark.slow

ALIKE = {
    "parameters": {"routing.accept_fraction": {"choice": [0.9, 0.92, 0.94]}},
    "algorithm": "grid",
    "num_parallel": 1,
    "share_prefixes": False,
}
"""Trials that all learn the same, so that one can tell whether another was disturbed."""

LOST_SECONDS = 45
"""By then a driver has said that its Ray is lost; left to Ray it is killed after 60 s."""


def kill_trial_workers():
    """End the workers that trials run in, below this process."""
    for child in psutil.Process().children(recursive=True):
        if "ImplicitFunc" in child.name() or "ImplicitFunc" in "".join(child.cmdline()[:1]):
            child.kill()


def kill_once(home, number):
    """Kill a trial's worker when its first stage has been taught, and wait for the next one."""
    trial = f"trials/{number:04d}"
    wait_for(lambda: found_below(home / "studies", f"{trial}/seed_0/checkpoints/stage_001_*"))
    kill_trial_workers()
    wait_for(
        lambda: "resumed" in events_of(home, trial) or found_below(home, f"{trial}/trial.json")
    )


def events_of(home, trial):
    """What a trial's workers said so far; its folder may vanish meanwhile."""
    try:
        return "".join(
            path.read_text() for path in found_below(home, f"{trial}/seed_0/events.jsonl")
        )
    except FileNotFoundError:
        return ""


def tracked_trials(uri, lineage):
    """Names of the runs that MLflow has of a study's trials, with their status."""
    with mlflow_client(uri) as client:
        experiment = client.get_experiment_by_name(lineage)
        runs = client.search_runs([experiment.experiment_id])
    named = [(run.info.run_name, run.info.status) for run in runs]
    return sorted(own for own in named if own[0].startswith("trial_"))


@pytest.mark.usefixtures("cluster")
def test_a_killed_worker_loses_the_time_since_the_checkpoint_and_killed_again_its_trial(
    tiny_model, tmp_path
):
    raw = raw_spec(tiny_model, tmp_path, ALIKE)
    raw["training"]["num_epochs"] = 30  # long enough to be killed in the middle
    home = Home.at(tmp_path / "home")

    def kill():
        kill_once(home.folder, 1)
        kill_once(home.folder, 2)
        kill_trial_workers()

    killer = threading.Thread(target=kill)
    killer.start()
    study, _ = run_study(Request(RawSpec(raw, tmp_path), "spec.yaml", home), lambda _line: None)
    killer.join()
    undisturbed, killed, killed_twice = study.trials
    assert [trial.status for trial in study.trials] == ["done", "done", "failed"]
    assert killed.seeds[0].accuracy_matrix == undisturbed.seeds[0].accuracy_matrix
    assert killed.seeds[0].metrics == undisturbed.seeds[0].metrics
    assert killed_twice.error is not None
    assert killed_twice.error["type"] == "Crash"
    assert "worker" in killed_twice.error["message"].lower()
    assert home.tracking_uri is not None
    assert tracked_trials(home.tracking_uri, "tiny") == [
        ("trial_000", "FINISHED"),
        ("trial_001", "FINISHED"),
        ("trial_002", "FAILED"),
    ]


def written(tmp_path, model):
    """The folder of a spec whose trials are long enough to be killed in the middle."""
    raw = raw_spec(model, tmp_path, GRID)
    raw["training"]["num_epochs"] = 30
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return tmp_path


@contextlib.contextmanager
def driving(folder, *options):
    """A driver of the spec's study; nothing is left of it and of its Ray afterwards."""
    driver = run_command(["tune", "spec.yaml", *options], folder)
    try:
        yield driver
    finally:
        with contextlib.suppress(ProcessLookupError):  # nothing is left, as it should be
            os.killpg(driver.pid, signal.SIGKILL)


def until_ended(driver, folder, number):
    """Wait until so many trials have ended."""
    deadline = time.monotonic() + 300
    while len(ended_trials(folder)) < number:
        assert driver.poll() is None, driver.communicate()
        assert time.monotonic() < deadline, "no trial ended"
        time.sleep(0.1)


def test_a_driver_whose_ray_was_killed_says_so_soon_and_the_study_goes_on(tiny_model, tmp_path):
    folder = written(tmp_path, tiny_model)
    before = {}
    for part, number in (("raylet", 1), ("gcs_server", 3)):
        with driving(folder) as driver:
            until_ended(driver, folder, number)
            (victim,) = (
                child
                for child in psutil.Process(driver.pid).children(recursive=True)
                if child.name().startswith(part)
            )
            victim.kill()
            _, err = driver.communicate(timeout=LOST_SECONDS)
        assert driver.returncode == 1, err
        assert "Ray is lost" in err
        assert before.items() <= ended_trials(folder).items()
        before = ended_trials(folder)
        assert len(before) < 6
    found = finished(folder, before, "--resume")
    assert {own["status"] for own in found["trials"]} == {"done"}


def finished(folder, before, *options):
    """What the command says that goes on to the end of the study, and repeats nothing."""
    with driving(folder, "--json", *options) as again:
        out, err = again.communicate(timeout=400)
    assert again.returncode == 0, err
    assert before.items() <= ended_trials(folder).items()
    found = json.loads(out)
    assert [own["number"] for own in found["trials"]] == list(range(6))
    return found


def test_a_killed_study_goes_on_and_repeats_no_trial_that_ended(tiny_model, tmp_path):
    folder = written(tmp_path, tiny_model)
    with driving(folder) as first:
        until_ended(first, folder, 2)
        os.killpg(first.pid, signal.SIGKILL)  # the driver, its Ray and every worker
        first.communicate()
    before = ended_trials(folder)
    assert 2 <= len(before) < 6
    found = finished(folder, before, "--resume", "--write", "best.yaml", "--promote")
    assert {own["status"] for own in found["trials"]} == {"done"}
    assert found["update"]["promoted"] is True
    best = yaml.safe_load((folder / "best.yaml").read_text(encoding="utf-8"))
    assert "tune" not in best
    rate = found["chosen"]["settings"]["training.learning_rate"]
    assert best["training"]["learning_rate"] == rate
    # The champion is what the study found: asked again it says the same and teaches nothing.
    again = finished(folder, ended_trials(folder), "--resume", "--promote")
    assert (again["study"], again["update"]) == (found["study"], found["update"])
