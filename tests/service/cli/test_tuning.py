import json

import pytest
import yaml

from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.tuning.search.trial_run import trial_folder, write_trial
from tests.pipelines.tuning.trials import trial
from tests.service.cli.test_updates import call
from tests.tiny import TASKS, write_task

LENIENT = ("--set", "gate.max_forgetting=1.0")
SPACE = {"training.learning_rate": {"log": [1e-4, 1e-2], "points": 2}}


@pytest.fixture
def spec_of(tiny_model, tmp_path):
    """Writes a spec with a `tune` section, or none."""

    def write(tune, **sections):
        raw = {
            "lineage": "tiny",
            "model": {"name": str(tiny_model)},
            "tasks": [write_task(tmp_path / "rows", name, TASKS[name]) for name in TASKS],
            "methods": [{"type": "ewc"}],
            "training": {"num_epochs": 1, "batch_size": 16, "max_length": 24},
            "tune": tune,
            **sections,
        }
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in raw.items() if v is not None}))
        return str(path)

    return write


def said(done):
    return " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("tune", "sections", "expected"),
    [
        (None, {}, "the spec says nothing about what to search"),
        ({"parameters": {"training.learning_rat": {"log": [1, 2]}}}, {}, "'learning_rate'?"),
        ({"parameters": {"methods.mas.strength": {"log": [1, 2]}}}, {}, "no such item"),
        ({"parameters": SPACE, "algorithm": "bohb"}, {}, "tune.algorithm"),
        ({"parameters": {}}, {}, "tune.parameters"),
        ({"parameters": SPACE}, {"joint": True, "methods": []}, "neither plasticity nor stability"),
        (
            {"parameters": {"preset": {"choice": ["ewc", "joint"]}}},
            {"methods": None},
            "neither plasticity nor stability",
        ),
        (
            {"parameters": SPACE, "early_stopping": "asha"},
            {"scaling": {"num_workers": 2}},
            "reports only at its end",
        ),
        (
            {"parameters": {"training.learning_rate": {"log": [1e-4, 1e-2]}}, "algorithm": "grid"},
            {},
            "needs `points`",
        ),
        (
            {"parameters": {"training.num_epochs": {"int": [1, 2]}}, "strategy": "stability_decay"},
            {},
            "learning rate and strengths",
        ),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_anything_is_taught(
    spec_of, tmp_path, tune, sections, expected
):
    done = call("tune", spec_of(tune, **sections), "--home", str(tmp_path / "home"))
    assert done.exit_code == 2
    assert expected in said(done)
    assert not list(tmp_path.glob("home/studies/*/*/trials"))


def test_there_must_be_something_to_resume(spec_of, tmp_path):
    done = call(
        "tune", spec_of({"parameters": SPACE}), "--resume", "--home", str(tmp_path / "home")
    )
    assert done.exit_code == 3
    assert "no study of this spec was begun" in said(done)


@pytest.fixture
def studied(spec_of, tmp_path):
    """Asks for a study that has no time to teach anything, and whose one trial has ended before."""
    home, tune = tmp_path / "home", {"parameters": SPACE, "algorithm": "grid", "max_seconds": 1e-9}
    spec = spec_of(tune)

    def ask(*options):
        return call("tune", spec, "--json", "--home", str(home), *options)

    assert ask().exit_code == 1  # no trial, and so nothing to choose
    (page,) = home.glob("studies/tiny/*/study.json")
    ended = trial(0, 0.9, 0.1, settings={"training.learning_rate": 1e-2})
    write_trial(trial_folder(page.parent, 0), ended)
    return ask, Registry(home), home / "runs" / "tiny"


def test_the_gate_may_refuse_what_a_study_chose(studied):
    ask, registry, _ = studied
    done = ask("--promote", "--set", "gate.min_accuracy=1.0")
    assert done.exit_code == 4, done.stderr
    found = json.loads(done.stdout)
    assert found["chosen"]["settings"] == {"training.learning_rate": 1e-2}
    assert found["update"]["promoted"] is False
    assert (registry.champion("tiny"), registry.challenger("tiny")) == (None, 1)


def test_what_the_gate_refused_is_said_again_and_not_taught_again_until_something_differs(studied):
    ask, registry, _ = studied
    strict = ("--promote", "--set", "gate.min_accuracy=1.0")
    first, again = ask(*strict), ask(*strict)
    assert (first.exit_code, again.exit_code) == (4, 4), again.stderr
    assert json.loads(again.stdout)["update"] == json.loads(first.stdout)["update"]
    assert registry.versions("tiny") == [1]
    assert ask("--promote", *LENIENT).exit_code == 0  # another gate is asked
    assert (registry.versions("tiny"), registry.champion("tiny")) == ([1, 2], 2)


def test_what_was_refused_and_promoted_by_hand_is_told_as_promoted(studied, tmp_path):
    ask, registry, _ = studied
    strict = ("--promote", "--set", "gate.min_accuracy=1.0")
    assert ask(*strict).exit_code == 4
    assert call("promote", "tiny", "--home", str(tmp_path / "home")).exit_code == 0
    again = ask(*strict)
    assert again.exit_code == 0, again.stderr
    update = json.loads(again.stdout)["update"]
    assert (update["promoted"], update["gate"]["promoted"]) == (True, False)
    assert registry.versions("tiny") == [1]


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_what_was_promoted_is_said_again_and_neither_searched_nor_taught_again(studied, is_cut_off):
    ask, registry, runs = studied
    first = ask("--promote", *LENIENT)
    assert first.exit_code == 0, first.stderr
    (done,) = runs.glob("*/done.json")
    if is_cut_off:  # killed between the promotion and the end of the update
        done.rename(done.with_name("result.json"))
    again = ask("--promote", "--resume", *LENIENT)
    assert again.exit_code == 0, again.stderr
    found, said_again = json.loads(first.stdout), json.loads(again.stdout)
    for name in ("study", "trials", "chosen", "update"):
        assert said_again[name] == found[name]
    assert (registry.versions("tiny"), len(list(runs.iterdir()))) == ([1], 1)


def test_rows_that_changed_since_the_promotion_make_another_study(studied, tmp_path):
    ask, registry, _ = studied
    assert ask("--promote", *LENIENT).exit_code == 0
    with (tmp_path / "rows" / "banking.train.jsonl").open("a") as rows:
        rows.write(json.dumps({"text": "wire my money now", "label": "transfer"}) + "\n")
    other = ask("--promote", *LENIENT)
    assert other.exit_code == 2
    assert "has learned a task of this name already" in said(other)  # it starts from the champion
    assert registry.versions("tiny") == [1]


def test_a_grid_that_is_not_tried_whole_is_warned_of_at_the_start_and_in_the_study(
    spec_of, tmp_path
):
    tune = {"parameters": SPACE, "algorithm": "grid", "num_trials": 1, "max_seconds": 1e-9}
    done = call("tune", spec_of(tune), "--json", "--home", str(tmp_path / "home"))
    assert "warning: the grid has 2 points, 1 will be tried" in said(done)
    assert any("the grid has 2 points" in own for own in json.loads(done.stdout)["warnings"])
