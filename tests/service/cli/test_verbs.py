"""Covers `catalogue`, `health`, `serving`, `tracked`, `versions`, `version_tables`,
`terminal.method_facts`.
"""

import json

import pytest
import yaml

from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.spec.presets import preset_advice, preset_names
from ratchet.pipelines.spec.reading import parse_spec
from ratchet.service.cli.app import VERBS
from tests.service.cli.test_updates import call, taught, write_spec  # noqa: F401


@pytest.mark.parametrize("function", [function for _, function in VERBS])
def test_every_verb_has_help_and_the_shared_options(function):
    done = call(function.__name__, "--help")
    assert done.exit_code == 0
    for option in ("--home", "--json", "--debug"):
        assert option in done.stdout


def test_methods_lists_every_method_and_preset():
    found = json.loads(call("methods", "--json").stdout)
    assert [method["type"] for method in found["methods"]] == list(METHOD_CONFIGS)
    assert [preset["name"] for preset in found["presets"]] == preset_names()
    table = call("methods").stdout
    assert all(name in table for name in [*METHOD_CONFIGS, *preset_names()])


def test_the_listing_says_what_one_decides_by_and_fits_80_columns(monkeypatch):
    monkeypatch.setattr("ratchet.service.cli.session.PIPE_WIDTH", 80)
    lines = call("methods").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    whole = " ".join(" ".join(line.split("│")[-1].split()) for line in lines)
    for config in METHOD_CONFIGS.values():
        assert f"protects: {config.protects}" in whole
        assert f"cost: {config.cost}" in whole
        assert f"Methods: {config.family}" in whole
    assert "old text kept" in whole
    for name in preset_names():
        assert preset_advice(name).removeprefix("Choose it ") in whole


def test_methods_and_presets_say_for_which_kinds_they_are():
    found = json.loads(call("methods", "--json").stdout)
    kinds = {method["type"]: method["kinds"] for method in found["methods"]}
    assert kinds["analytic"] == ["classifier"]
    assert kinds["ewc"] == ["causal_lm", "classifier"]
    presets = {preset["name"]: preset for preset in found["presets"]}
    assert presets["analytic"]["kinds"] == ["classifier"]
    assert presets["replay_ewc"]["families"] == ["regularization", "replay"]
    assert presets["finetune"]["kinds"] == ["causal_lm", "classifier"]


def test_methods_explains_one_with_its_defaults():
    found = json.loads(call("methods", "ewc", "--json").stdout)
    strength = {"default": 1000.0, "allowed": "number at least 0 or auto"}
    assert found["fields"]["strength"] == strength
    assert found["fields"]["labels"] == {"default": "sampled", "allowed": "sampled, observed"}
    assert "Kirkpatrick" in found["source"]
    assert "strength" in call("methods", "ewc").stdout


def test_methods_offers_the_nearest_name():
    done = call("methods", "replya")
    assert done.exit_code == 3
    assert "Did you mean 'replay'?" in done.stderr


def test_schema_knows_every_section_and_method():
    found = json.loads(call("schema").stdout)
    assert {"lineage", "model", "tasks", "methods", "gate"} <= found["properties"].keys()
    assert "EwcConfig" in found["$defs"]


def test_the_example_is_a_spec_once_its_data_exists(tmp_path):
    raw = yaml.safe_load(call("schema", "--example").stdout)
    for task in raw["tasks"]:
        for split in ("train", "test"):
            path = tmp_path / task[split]
            path.parent.mkdir(exist_ok=True)
            path.touch()
    assert parse_spec(raw, tmp_path).lineage == "intents"


def test_evaluate_measures_what_the_update_measured(taught):  # noqa: F811
    home, spec, done = taught
    result = json.loads(done.stdout)
    found = json.loads(call("evaluate", "tiny@1", spec, "--home", home, "--json").stdout)
    last = [found["scores"][task]["test"]["without_task_id"] for task in result["tasks"]]
    assert last == pytest.approx(result["accuracy_matrix"][-1], abs=1e-6)
    with_id = [found["scores"][task]["test"]["with_task_id"] for task in result["tasks"]]
    assert with_id == pytest.approx(result["with_task_id"]["accuracy_matrix"][-1], abs=1e-6)
    assert found["average"]["test"]["without_task_id"] == pytest.approx(sum(last) / 2)
    assert found["scores"]["banking"]["test"]["num_rows"] == 12
    assert "banking" in call("evaluate", "tiny", spec, "--home", home).stdout


def test_evaluate_names_the_nearest_task(taught, tmp_path):  # noqa: F811
    home, spec, _ = taught
    raw = yaml.safe_load(spec.read_text(encoding="utf-8"))
    raw["tasks"][0]["name"] = "bankign"
    other = tmp_path / "other.yaml"
    other.write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = call("evaluate", "tiny", other, "--home", home)
    assert done.exit_code == 3
    assert "Did you mean 'banking'?" in done.stderr


def test_plan_trains_nothing_that_is_kept(taught, tiny_model, tmp_path):  # noqa: F811
    spec = write_spec(tmp_path, tiny_model)
    home = tmp_path / "home"
    done = call("plan", spec, "--home", home, "--json")
    assert done.exit_code == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["num_steps"] == 2 * 2 * 2
    assert not home.exists()
    shown = call("plan", spec, "--home", home).stdout
    assert "banking" in shown
    assert "an estimate from" in shown


HOMELESS = ("methods", "schema", "doctor")
JOB_VERBS = ("wait", "get", "events", "logs", "cancel", "pause", "resume")
ARGUMENTS = {
    "run": ["spec.yaml"],
    "plan": ["spec.yaml"],
    "tune": ["spec.yaml"],
    "compare": ["spec.yaml", "--methods", "ewc"],
    "versions": ["tiny"],
    "evaluate": ["tiny", "spec.yaml"],
    "predict": ["tiny", "text"],
    "serve": ["tiny"],
    "promote": ["tiny@1"],
    "rollback": ["tiny"],
    "track": ["--send", "run"],
    "up": ["--no-ray"],
    "submit": ["spec.yaml"],
    "list": [],
    "audit": [],
    **{name: ["ftjob-1"] for name in JOB_VERBS},
}
"""Of each verb that looks into the home, what it needs."""


@pytest.mark.parametrize("below", ["", "home"])
@pytest.mark.parametrize("name", [f.__name__ for _, f in VERBS if f.__name__ not in HOMELESS])
def test_a_home_that_is_a_file_is_refused(tmp_path, name, below):
    (tmp_path / "file").touch()
    done = call(name, *ARGUMENTS[name], "--home", tmp_path / "file" / below, "--json")
    assert done.exit_code == 2
    (problem,) = json.loads(done.stderr)["error"]["problems"]
    assert problem["where"] == "--home"
    assert problem["value"] == str(tmp_path / "file")
    assert "a folder is needed" in problem["message"]


@pytest.mark.parametrize("below", ["", "sub"])
def test_a_comparison_into_a_file_is_refused(tmp_path, below):
    (tmp_path / "file").write_text("kept")
    out = tmp_path / "file" / below
    done = call("compare", "spec.yaml", "--methods", "ewc", "--out", out, "--home", tmp_path)
    assert done.exit_code == 2
    assert "--out: a folder is needed, and this is a file" in done.stderr
    assert (tmp_path / "file").read_text() == "kept"


def test_settings_found_are_not_written_over_a_folder(tmp_path):
    done = call("tune", "spec.yaml", "--write", tmp_path, "--home", tmp_path / "home")
    assert done.exit_code == 2
    assert "--write" in done.stderr


def test_doctor_finds_a_home_that_cannot_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    done = call("doctor", "--home", blocked / "home", "--json")
    assert done.exit_code == 1
    found = json.loads(done.stdout)
    [home] = [each for each in found["findings"] if each["name"] == "home"]
    assert not found["healthy"]
    assert home["status"] == "fail"
    assert "--home" in home["advice"]


def test_doctor_warns_of_a_tracking_server_that_is_away(tmp_path):
    done = call("doctor", "--home", tmp_path, "--tracking-uri", "http://127.0.0.1:9", "--json")
    assert done.exit_code == 0
    found = json.loads(done.stdout)["findings"]
    [mlflow] = [each for each in found if each["name"] == "mlflow"]
    assert mlflow["status"] == "warn"
    assert {"libraries", "memory", "disk", "ray", "port 8000"} <= {each["name"] for each in found}


def test_track_sends_what_waits(taught, tmp_path):  # noqa: F811
    home, _, _ = taught
    [run] = (home / "runs" / "tiny").iterdir()
    uri = f"sqlite:///{tmp_path / 'other.db'}"
    first = json.loads(call("track", "--send", run, "--tracking-uri", uri, "--json").stdout)
    assert first["num_sent"] > 0
    again = json.loads(call("track", "--send", run, "--tracking-uri", uri, "--json").stdout)
    assert again["num_sent"] == 0


def test_track_without_an_outbox_is_not_found(tmp_path):
    assert call("track", "--send", tmp_path).exit_code == 3


def test_predict_answers_in_the_shape_of_the_service(taught):  # noqa: F811
    home, _, _ = taught
    done = call(
        "predict", "tiny", "send money please", "--task", "banking", "--home", home, "--json"
    )
    assert done.exit_code == 0, done.stderr
    [answer] = json.loads(done.stdout)
    assert answer["label"] in ("balance", "transfer")
    assert answer["route"]["task"] == "banking"


def test_predict_for_an_unknown_lineage_is_not_found(tmp_path):
    assert call("predict", "nothing", "text", "--home", tmp_path).exit_code == 3


def test_serve_for_an_unknown_lineage_starts_nothing(tmp_path):
    assert call("serve", "nothing", "--home", tmp_path).exit_code == 3
