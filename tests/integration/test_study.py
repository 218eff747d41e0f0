"""A study on a real Ray: searched, killed, resumed, used."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipelines.errors import NotFoundError
from pipelines.run import Home, run_update
from pipelines.tuning.space import RawSpec
from pipelines.tuning.study_run import Request
from pipelines.tuning.tuning import run_study
from tests.tiny import TASKS, write_task

pytestmark = pytest.mark.slow

GRID = {
    "parameters": {
        "training.learning_rate": {"log": [1e-4, 1e-2], "points": 2},
        "methods.ewc.strength": {"log": [1, 1e4], "points": 3},
    },
    "algorithm": "grid",
    "num_parallel": 2,
}


def raw_spec(model, folder, tune, **sections):
    """A spec over tiny tasks, as a file would hold it."""
    return {
        "lineage": "tiny",
        "model": {"name": str(model)},
        "tasks": [write_task(folder / "rows", name, labels) for name, labels in TASKS.items()],
        "methods": [{"type": "ewc"}],
        "training": {
            "num_epochs": 2,
            "learning_rate": 3e-3,
            "batch_size": 16,
            "max_length": 24,
            "precision": "fp32",
        },
        "gate": {"max_forgetting": 1.0},
        "tune": tune,
        **sections,
    }


def studied(raw, folder, must_exist=False):
    lines: list[str] = []
    request = Request(
        RawSpec(raw, folder), "spec.yaml", Home(folder / "home", None), None, must_exist
    )
    study, place = run_study(request, lines.append)
    return study, place, lines


@pytest.fixture(scope="module")
def searched(tiny_model, tmp_path_factory, cluster):
    """A whole study of a grid with two seeds a trial."""
    folder = tmp_path_factory.mktemp("study")
    raw = raw_spec(tiny_model, folder, GRID | {"num_seeds": 2})
    return raw, folder, *studied(raw, folder)


def test_a_grid_is_searched_whole_and_its_first_tasks_are_taught_once(searched):
    _, _, study, place, _ = searched
    assert [trial.status for trial in study.trials] == ["done"] * 6
    assert all(len(trial.seeds) == 2 for trial in study.trials)
    by_rate = {}
    for trial in study.trials:
        by_rate.setdefault(trial.settings["training.learning_rate"], []).append(trial)
    for trials in by_rate.values():
        taught = [trial for trial in trials if trial.seeds[0].shared_seconds == 0]
        assert len(taught) == 1  # the other strengths go on from its first task
        firsts = {trial.seeds[0].accuracy_matrix[0] for trial in trials}
        assert len(firsts) == 1
    assert study.chosen is not None
    assert json.loads((place / "study.json").read_text())["study"] == study.name
    assert {path.name for path in place.iterdir()} >= {"study.html", "front.png", "trials"}
    assert not (place / "ray").exists()
    assert not (place / "prefixes").exists()
    left = {path.name for path in (place / "trials" / "0000").iterdir()}
    assert left == {"settings.json", "trial.json"}


def test_a_trial_measures_what_an_update_with_its_settings_does(searched, tmp_path):
    raw, folder, study, _, _ = searched
    trial = study.trials[-1]
    spec = RawSpec(raw, folder).without_tune(trial.settings)
    result = run_update(spec, Home(tmp_path / "home", None))
    mine = trial.seeds[0]
    assert trial.seeds[0].shared_seconds > 0
    for name in ("average_accuracy", "forgetting", "learning_accuracy"):
        assert mine.test_metrics[name] == pytest.approx(result["metrics"][name])


def test_the_same_call_again_repeats_nothing(searched):
    raw, folder, study, _, _ = searched
    again, _, lines = studied(raw, folder, must_exist=True)
    assert any("6 trials ended before" in line for line in lines)
    assert [trial.as_dict() for trial in again.trials] == [t.as_dict() for t in study.trials]
    other = {**raw, "training": {**raw["training"], "seed": 5}}
    with pytest.raises(NotFoundError, match="no study of this spec was begun"):
        studied(other, folder, must_exist=True)


@pytest.mark.usefixtures("cluster")
def test_a_study_goes_on_from_the_champion_of_a_lineage(tiny_model, tmp_path):
    tune = {"parameters": {"training.learning_rate": {"choice": [1e-3, 3e-3]}}}
    raw = raw_spec(tiny_model, tmp_path, tune | {"algorithm": "grid", "num_parallel": 1})
    first, later = {**raw, "tasks": raw["tasks"][:2]}, {**raw, "tasks": raw["tasks"][2:]}
    home = Home(tmp_path / "home", None)
    run_update(RawSpec(first, tmp_path).without_tune({}), home)
    study, _, _ = studied(later, tmp_path)
    assert [trial.status for trial in study.trials] == ["done", "done"]
    assert study.chosen is not None
    best = RawSpec(later, tmp_path).without_tune(study.chosen.trial.settings)
    result = run_update(best, home)
    assert study.chosen.trial.seeds[0].test_metrics["average_accuracy"] == pytest.approx(
        result["metrics"]["average_accuracy"]
    )
    assert result["version"] == 2


@pytest.mark.usefixtures("cluster")
def test_a_trial_that_has_been_taught_whole_is_not_stopped_early(tiny_model, tmp_path):
    tune = {
        "parameters": {"training.learning_rate": {"choice": [3e-3, 1e-9, 2e-9]}},
        "algorithm": "grid",
        "early_stopping": "asha",
        "num_parallel": 1,
        "num_tasks": 2,
        "num_seeds": 1,
    }
    study, _, _ = studied(raw_spec(tiny_model, tmp_path, tune), tmp_path)
    # With two tasks the only place to stop is their end, and there a trial is done.
    assert [trial.status for trial in study.trials] == ["done"] * 3
    assert all(len(trial.seeds[0].tasks) == 2 for trial in study.trials)


@pytest.mark.usefixtures("cluster")
def test_what_fails_is_a_result_and_not_the_end(tiny_model, tmp_path):
    tune = {
        "parameters": {"training.learning_rate": {"choice": [1e-3, 1e30]}},
        "algorithm": "grid",
        "num_parallel": 1,
    }
    study, _, _ = studied(raw_spec(tiny_model, tmp_path, tune), tmp_path)
    assert [trial.status for trial in study.trials] == ["done", "failed"]
    assert study.trials[1].error is not None
    assert study.trials[1].error["type"] == "DivergedError"
    assert study.chosen is not None
    assert study.chosen.trial.number == 0


@pytest.mark.usefixtures("cluster")
def test_trials_that_fall_behind_are_ended_early_and_never_chosen(tiny_model, tmp_path):
    tune = {
        "parameters": {"training.learning_rate": {"choice": [3e-3, 2e-3, 1e-9, 2e-9, 3e-9, 4e-9]}},
        "algorithm": "grid",
        "early_stopping": "asha",
        "num_parallel": 1,
    }
    raw = raw_spec(tiny_model, tmp_path, tune, methods=[{"type": "replay", "capacity": 20}])
    raw["training"]["num_epochs"] = 6
    study, _, _ = studied(raw, tmp_path)
    status = {trial.settings["training.learning_rate"]: trial.status for trial in study.trials}
    assert status[3e-3] == "done"
    stopped = [trial for trial in study.trials if trial.status == "stopped"]
    assert any(trial.settings["training.learning_rate"] < 1e-8 for trial in stopped)
    assert all("ended early after" in (trial.error or {})["message"] for trial in stopped)
    assert not {trial.number for trial in stopped} & {own.trial.number for own in study.front}


def run_command(arguments, folder):
    environment = {**os.environ, "RATCHET_HOME": str(folder / "home")}
    return subprocess.Popen(
        [sys.executable, "-c", "from service.cli import main; main()", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended_trials(folder: Path) -> dict[str, float]:
    """When each ended trial was written."""
    found = folder.glob("home/studies/tiny/*/trials/*/trial.json")
    return {path.parent.name: path.stat().st_mtime for path in found}


def test_a_killed_study_goes_on_and_repeats_no_trial_that_ended(tiny_model, tmp_path):
    raw = raw_spec(tiny_model, tmp_path, GRID)
    raw["training"]["num_epochs"] = 30  # long enough to be killed in the middle
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    first = run_command(["tune", "spec.yaml"], tmp_path)
    deadline = time.monotonic() + 120
    while len(ended_trials(tmp_path)) < 2:
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline, "no trial ended"
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGKILL)  # the driver, its Ray and every worker
    first.communicate()
    before = ended_trials(tmp_path)
    assert 2 <= len(before) < 6
    again = run_command(
        ["tune", "spec.yaml", "--json", "--resume", "--write", "best.yaml", "--promote"], tmp_path
    )
    out, err = again.communicate(timeout=240)
    assert again.returncode == 0, err
    found = json.loads(out)
    assert len(found["trials"]) == 6
    assert {own["status"] for own in found["trials"]} == {"done"}
    after = ended_trials(tmp_path)
    assert {name: after[name] for name in before} == before
    assert found["update"]["promoted"] is True
    best = yaml.safe_load((tmp_path / "best.yaml").read_text(encoding="utf-8"))
    assert "tune" not in best
    rate = found["chosen"]["settings"]["training.learning_rate"]
    assert best["training"]["learning_rate"] == rate
