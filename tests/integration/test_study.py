"""Covers `pipelines.tuning.promotion`.

A study on a real Ray.
"""

import json

import pytest

from ratchet.pipelines.errors import NotFoundError
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.tuning.search.space import RawSpec
from tests.integration.studies import GRID, raw_spec, studied
from tests.tiny import run_update

pytestmark = pytest.mark.slow


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
    assert all(len(trial.seeds[0].accuracy_matrix) == 2 for trial in stopped)
    assert not {trial.number for trial in stopped} & {own.trial.number for own in study.front}


@pytest.mark.usefixtures("cluster")
def test_a_study_that_ran_out_of_time_goes_on_when_there_is_more_also_over_streamed_rows(
    tiny_model, tmp_path
):
    tune = {
        "parameters": {"training.learning_rate": {"choice": [1e-3, 3e-3]}},
        "algorithm": "grid",
        "num_parallel": 1,
        "num_tasks": 2,
    }
    streamed = {"data": {"memory_budget_mb": 0.001}}
    short = raw_spec(tiny_model, tmp_path, tune | {"max_seconds": 0.5}, **streamed)
    none, place, _ = studied(short, tmp_path)  # a worker does not even start in that time
    assert (none.trials, none.chosen) == ((), None)
    assert [path.name for path in (place / "trials").iterdir()] == ["0000"]
    study, same_place, _ = studied({**short, "tune": tune | {"max_seconds": 600}}, tmp_path)
    assert same_place == place
    assert [trial.status for trial in study.trials] == ["done", "done"]
    alone = RawSpec({**short, "tasks": short["tasks"][:2], "tune": tune}, tmp_path)
    result = run_update(alone.without_tune(study.trials[1].settings), Home(tmp_path / "own", None))
    found = study.trials[1].seeds[0].test_metrics["average_accuracy"]
    assert found == pytest.approx(result["metrics"]["average_accuracy"])


@pytest.mark.usefixtures("cluster")
def test_a_trial_of_two_workers_starts_a_group_and_learns_what_one_worker_does(
    still_model, tmp_path
):
    tune = {
        "parameters": {"training.learning_rate": {"choice": [3e-3, 1e-3]}},
        "algorithm": "grid",
        "num_trials": 1,
        "num_tasks": 2,
    }
    raw = raw_spec(still_model, tmp_path, tune, scaling={"num_workers": 2})
    study, place, _ = studied(raw, tmp_path)
    assert [trial.status for trial in study.trials] == ["done"]
    alone = RawSpec({**raw, "tasks": raw["tasks"][:2], "scaling": {"num_workers": 0}}, tmp_path)
    result = run_update(alone.without_tune(study.trials[0].settings), Home(tmp_path / "own", None))
    found = study.trials[0].seeds[0].test_metrics
    for name in ("average_accuracy", "forgetting", "learning_accuracy"):
        assert found[name] == pytest.approx(result["metrics"][name]), name
    left = {path.name for path in (place / "trials" / "0000").iterdir()}
    assert left == {"settings.json", "trial.json"}
