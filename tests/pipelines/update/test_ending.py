"""Covers, beside `ending`: `kept_result`, `training.trainer`."""

import dataclasses
import json

import pytest

from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.training.stream import StreamTeacher
from ratchet.pipelines.training.trainer import DRAFT_FOLDER
from ratchet.pipelines.update.ending import HandOver
from ratchet.pipelines.update.kept_result import CLAIM_FILE, DONE_FILE, RESULT_FILE, kept_result
from ratchet.pipelines.update.result import FORMAT
from tests.conformance.streams import Interruption, differences
from tests.tiny import run_update, tiny_spec
from tests.tiny import teach as teach_and_register

RENAME = "pathlib.Path.rename"
METHODS = [{"type": "replay", "capacity": 12, "fraction": 0.5}]


def home_in(folder):
    return Home((folder / "home").resolve(), None)


def spec_for(model, folder, task, **sections):
    return tiny_spec(model, folder / f"rows_{task}", "tiny", [task], METHODS, **sections)


def cut(*_args, **_named):
    raise Interruption("here")


def cut_at_the_draft(self, target):
    if self.name == DRAFT_FOLDER:
        raise Interruption("here")
    return self.replace(target)


def forbid_teaching(monkeypatch):
    monkeypatch.setattr(StreamTeacher, "run", cut)


def test_a_version_is_written_and_neither_registered_nor_promoted(tiny_model, tmp_path):
    home = home_in(tmp_path)
    found = run_update(
        spec_for(tiny_model, tmp_path, "banking"), home, hand_over=HandOver("job-1", None)
    )
    assert found["version"] == 1
    assert found["promoted"] is True  # what the gate says, for the caller to act upon
    assert len(found["run"]) == 32
    assert home.registry.versions("tiny") == [1]
    assert home.registry.aliases("tiny").history == ()
    assert not (home.folder / "versions" / "tiny" / "aliases.json").exists()
    done = home.runs("tiny") / "job-1" / DONE_FILE
    assert json.loads(done.read_text()) == {"format": FORMAT, **found}
    assert not (done.parent / "checkpoints").exists()


def test_it_starts_from_the_version_that_is_named_and_not_from_the_champion(tiny_model, tmp_path):
    home = home_in(tmp_path)
    teach_and_register(home.folder, spec_for(tiny_model, tmp_path, "banking"))
    teach_and_register(home.folder, spec_for(tiny_model, tmp_path, "home"))
    spec = spec_for(tiny_model, tmp_path, "kitchen")
    first = run_update(spec, home, hand_over=HandOver("from-1", 1))
    assert first["tasks"] == ["banking", "kitchen"]
    base = run_update(spec, home, hand_over=HandOver("from-base", None))
    assert base["tasks"] == ["kitchen"]
    manifests = [
        json.loads((home.registry.path("tiny", own["version"]) / "manifest.json").read_text())
        for own in (first, base)
    ]
    assert [own["parent"] for own in manifests] == [1, None]
    assert home.registry.champion("tiny") == 2


def test_what_is_taught_is_what_registering_teaches(tiny_model, tmp_path):
    from ratchet.pipelines.version import load_version

    weights, results = [], []
    for name, end in (("own", None), ("handed", HandOver("job", None))):
        home = home_in(tmp_path / name)
        spec = spec_for(tiny_model, tmp_path / "rows", "banking")
        results.append(run_update(spec, home, hand_over=end))
        version = load_version(home.registry.path("tiny", 1))
        weights.append(version.model.state_dict())
    assert differences(*weights) == []
    assert set(results[1]) - set(results[0]) == {"run"}
    assert results[0]["metrics"] == results[1]["metrics"]


def test_a_second_call_returns_what_was_kept_and_teaches_nothing(tiny_model, tmp_path, monkeypatch):
    home, spec = home_in(tmp_path), spec_for(tiny_model, tmp_path, "banking")
    first = run_update(spec, home, hand_over=HandOver("job", None))
    forbid_teaching(monkeypatch)
    again = run_update(spec, home, hand_over=HandOver("job", None))
    assert again == first == json.loads(json.dumps(first))
    assert home.registry.versions("tiny") == [1]


@pytest.mark.parametrize(
    "step",
    [
        RENAME,
        "ratchet.pipelines.update.ending.HandOver.make_known",
        "ratchet.pipelines.update.ending.track_result",
        "ratchet.pipelines.update.run.end_run",
    ],
)
def test_cut_off_around_the_versions_rename_nothing_is_taught_again(
    tiny_model, tmp_path, monkeypatch, step
):
    home, spec = home_in(tmp_path), spec_for(tiny_model, tmp_path, "banking")
    with monkeypatch.context() as patched:
        patched.setattr(step, cut_at_the_draft if step == RENAME else cut)
        with pytest.raises(Interruption):
            run_update(spec, home, hand_over=HandOver("job", None))
    folder = home.runs("tiny") / "job"
    assert (folder / RESULT_FILE).is_file()
    is_whole = step != RENAME
    assert (kept_result(folder, home.registry, "tiny") is not None) == is_whole
    forbid_teaching(monkeypatch)
    found = run_update(spec, home, hand_over=HandOver("job", None))
    assert found["version"] == 1
    assert home.registry.versions("tiny") == [1]
    assert (folder / DONE_FILE).is_file()
    assert not (folder / "checkpoints").exists()


def test_a_caller_that_lost_its_right_writes_no_version_and_the_next_one_takes_its_number(
    tiny_model, tmp_path, monkeypatch
):
    home, spec = home_in(tmp_path), spec_for(tiny_model, tmp_path, "banking")
    mine = HandOver("job", None)
    with pytest.raises(Interruption):
        run_update(spec, home, hand_over=dataclasses.replace(mine, before_writing=cut))
    assert home.registry.versions("tiny") == []
    assert (home.runs("tiny") / "job" / CLAIM_FILE).read_text() == "1"
    forbid_teaching(monkeypatch)
    assert run_update(spec, home, hand_over=mine)["version"] == 1


def test_runs_of_other_names_are_other_runs(tiny_model, tmp_path):
    home, spec = home_in(tmp_path), spec_for(tiny_model, tmp_path, "banking")
    numbers = [
        run_update(spec, home, hand_over=HandOver(name, None))["version"] for name in ("a", "b")
    ]
    assert numbers == [1, 2]
