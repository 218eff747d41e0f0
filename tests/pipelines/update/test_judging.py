"""Covers `judging`, `evaluation.as_served`."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from ratchet.pipelines.answering.predict import predict
from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.registry.manifest import read_manifest, write_manifest
from ratchet.pipelines.update.evaluate import evaluate_version
from ratchet.pipelines.update.judging import judge_served, rows_hash
from ratchet.pipelines.version import WEIGHTS_FILE, HeldOutTexts, read_held_out
from tests.tiny import teach, texts_of, tiny_spec

GROWING = [{"type": "replay", "capacity": 12, "fraction": 0.5}]


@pytest.fixture(scope="module")
def taught(tiny_model, tmp_path_factory):
    """A lineage of two tasks with one growing head: its home, spec and result."""
    folder = tmp_path_factory.mktemp("judged")
    spec = tiny_spec(tiny_model, folder / "rows", "tiny", ["banking", "home"], GROWING)
    return folder / "home", spec, teach(folder / "home", spec)


def test_the_result_says_what_is_served_and_by_what(taught):
    home, _, result = taught
    served = result["as_served"]
    assert set(served["tasks"]) == {"banking", "home"}
    for own in served["tasks"].values():
        parts = own["accuracy"] + own["other_task"] + own["rejected"] + own["within_task"]
        assert parts == pytest.approx(1.0, abs=1e-5)
    mean = sum(own["accuracy"] for own in served["tasks"].values()) / 2
    assert served["average_accuracy"] == pytest.approx(mean, abs=1e-5)
    assert result["metrics"]["average_accuracy_as_served"] == served["average_accuracy"]
    rule = served["answering"]
    assert set(rule["accuracy"]) == {"heads", "routed", "prototypes", "mixture"}
    assert rule["accuracy"][rule["by"]] == max(rule["accuracy"].values())
    manifest = read_manifest(Home(home, None).registry.path("tiny", 1))
    assert manifest.answering == rule
    assert manifest.metrics["average_accuracy_as_served"] == served["average_accuracy"]


def test_what_is_said_to_be_served_is_what_predict_answers(taught):
    home, _, result = taught
    folder = Home(home, None).registry.path("tiny", 1)
    for task_id, name in enumerate(result["tasks"]):
        held = read_held_out(folder, task_id)
        found = predict(home, "tiny@1", held.test)
        right = [a.label == wanted for a, wanted in zip(found, held.test_labels, strict=True)]
        own = result["as_served"]["tasks"][name]
        assert sum(right) / len(right) == pytest.approx(own["accuracy"], abs=1e-5)
        rejected = sum(answer.abstained for answer in found) / len(found)
        assert rejected == pytest.approx(own["rejected"], abs=1e-5)


def test_evaluating_a_version_gives_the_same_as_served(taught):
    home, spec, result = taught
    measured = evaluate_version(spec, Home(home, None).registry.path("tiny", 1))
    for name, own in result["as_served"]["tasks"].items():
        assert measured["scores"][name]["test"]["as_served"] == own["accuracy"]
    average = measured["average"]["test"]["as_served"]
    assert average == pytest.approx(result["as_served"]["average_accuracy"], abs=1e-5)


def test_a_lineage_may_say_how_it_answers(tiny_model, tmp_path):
    spec = tiny_spec(
        tiny_model,
        tmp_path / "rows",
        "tiny",
        ["banking", "home"],
        GROWING,
        routing={"answer_by": "heads"},
    )
    result = teach(tmp_path / "home", spec)
    assert result["as_served"]["answering"]["by"] == "heads"


@pytest.mark.parametrize("methods", [[{"type": "lora", "per_task": True}], []])
def test_all_heads_at_once_are_refused_where_each_task_has_its_own(tiny_model, tmp_path, methods):
    spec = tiny_spec(
        tiny_model,
        tmp_path / "rows",
        "tiny",
        ["banking"],
        methods,
        scenario="class_incremental" if methods else "task_incremental",
        routing={"answer_by": "heads"},
    )
    with pytest.raises(SpecError, match=r"routing\.answer_by.*no softmax goes over the heads"):
        teach(tmp_path / "home", spec)


def copy_of(taught, folder):
    """A copy of the version, to be broken, with what a judge needs."""
    source = Home(taught[0], None).registry.path("tiny", 1)
    shutil.copytree(source, folder)
    texts = {task_id: read_held_out(folder, task_id) for task_id in (0, 1)}
    matrix = json.loads((folder / "accuracy_matrix.json").read_text())
    return texts, matrix


def held_of(folder, texts):
    """What the version itself answers, as its teacher would have measured it."""
    nothing = dict.fromkeys(("banking", "home"), "0:")
    found = judge_served(folder, texts, nothing, "auto", is_language=False)
    return {name: own.own for name, own in found.rows.items()}


def test_a_version_that_answers_as_it_was_measured_has_no_problems(taught, tmp_path):
    texts, _ = copy_of(taught, tmp_path / "copy")
    held = held_of(tmp_path / "copy", texts)
    found = judge_served(tmp_path / "copy", texts, held, "auto", is_language=False)
    assert found.problems == ()
    assert found.rows["home"].rows == rows_hash(texts[1])


def test_a_version_that_answers_otherwise_than_it_was_measured_is_refused(taught, tmp_path):
    texts, _ = copy_of(taught, tmp_path / "copy")
    held = held_of(tmp_path / "copy", texts)
    weights = load_file(tmp_path / "copy" / WEIGHTS_FILE)
    changed = {
        name: -tensor if "heads.blocks.task_001" in name else tensor
        for name, tensor in weights.items()
    }
    assert any(not torch.equal(changed[name], weights[name]) for name in weights)
    save_file(changed, tmp_path / "copy" / WEIGHTS_FILE)
    write_manifest(tmp_path / "copy", read_manifest(tmp_path / "copy"))
    found = judge_served(tmp_path / "copy", texts, held, "auto", is_language=False)
    (problem,) = found.problems
    assert problem.startswith("home: the version does not answer as it was measured")


def test_a_version_that_does_not_load_is_refused_with_the_reason(taught, tmp_path):
    texts, _ = copy_of(taught, tmp_path / "copy")
    (tmp_path / "copy" / WEIGHTS_FILE).write_bytes(b"nothing")
    found = judge_served(tmp_path / "copy", texts, {}, "auto", is_language=False)
    assert found.rows == {}
    assert found.as_served is None
    assert "cannot be served: loaded from its files, it failed" in found.problems[0]
    assert WEIGHTS_FILE in found.problems[0]


def test_an_update_whose_version_does_not_load_is_not_promoted(tiny_model, tmp_path, monkeypatch):
    spec = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["banking"], [])

    def broken(*_args, **_named):
        raise RuntimeError("shapes do not fit")

    with monkeypatch.context() as patched:
        patched.setattr("ratchet.pipelines.update.judging.load_served_version", broken)
        result = teach(tmp_path / "home", spec)
    assert not result["promoted"]
    assert "shapes do not fit" in result["gate"]["reasons"][0]
    assert Home(tmp_path / "home", None).registry.champion("tiny") is None


def test_rows_that_moved_between_text_and_label_have_another_hash():
    one = HeldOutTexts(["ab"], ["c"], [], [])
    other = HeldOutTexts(["a"], ["bc"], [], [])
    assert rows_hash(one) != rows_hash(other)
    assert rows_hash(one) == rows_hash(HeldOutTexts(["ab"], ["c"], texts_of("balance", 1), ["x"]))
