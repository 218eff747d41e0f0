"""Covers, beside `study`: `trial`."""

import json
from dataclasses import replace

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.tuning.trial import SeedResult, Trial, read_settings, write_settings
from tests.pipelines.tuning.trials import RATE, failed, study, trial

FOUND = (trial(0, [0.9, 0.92], [0.2, 0.22]), trial(1, [0.8, 0.8], [0.0, 0.02]), failed(2))


def test_a_study_says_what_follows_from_its_trials():
    found = study(FOUND, choose={"rule": "bounded_forgetting"}).as_dict()
    assert [own["number"] for own in found["trials"]] == [0, 1, 2]
    assert found["front"] == [0, 1]
    assert found["knee"] == 0
    assert found["reference"] == {"plasticity": 0.0, "stability": -1.0}
    assert found["hypervolume"] == pytest.approx(0.91 * 0.79 + 0.8 * (0.99 - 0.79))
    assert found["chosen"]["number"] == 1
    assert found["chosen"]["settings"] == {RATE: 1e-4}
    assert found["on_front_probability"] == {"0": 1.0, "1": 1.0}
    assert [own["num_trials"] for own in found["effects"]] == [2, 2, 0, 0]
    assert (found["study"], found["lineage"], found["seconds"]) == ("intents-1", "intents", 300.0)


def test_what_it_says_is_plain_json():
    found = study(FOUND).as_dict()
    assert json.loads(json.dumps(found, allow_nan=False))["front"] == found["front"]


def test_a_study_of_failures_says_so():
    found = study([failed(0), failed(1)]).as_dict()
    assert (found["front"], found["knee"], found["chosen"]) == ([], None, None)
    assert found["hypervolume"] == 0.0
    assert found["on_front_probability"] is None


def test_a_reference_of_the_callers_own_is_used():
    own = replace(study(FOUND), reference={"stability": -0.5, "plasticity": 0.5})
    assert own.hypervolume == pytest.approx(0.41 * 0.29 + 0.3 * 0.2)


def test_saved_seconds_are_those_of_all_seeds():
    first = trial(0, [0.9, 0.9], [0.1, 0.1])
    seeds = tuple(replace(own, shared_seconds=4.0) for own in first.seeds)
    assert study([replace(first, seeds=seeds), trial(1, 0.8, 0.2)]).seconds_saved == 8.0


def test_a_trial_and_its_settings_survive_their_files(tmp_path):
    whole = replace(FOUND[0], settings={"methods": [{"type": "ewc"}], "training.num_epochs": 2})
    (tmp_path / "trial.json").write_text(json.dumps(whole.kept()), encoding="utf-8")
    assert Trial.read(tmp_path / "trial.json") == whole
    (tmp_path / "seed.json").write_text(json.dumps(whole.seeds[0].kept()), encoding="utf-8")
    assert SeedResult.read(tmp_path / "seed.json") == whole.seeds[0]
    write_settings(tmp_path / "settings.json", whole.settings)
    assert read_settings(tmp_path / "settings.json") == whole.settings


@pytest.mark.parametrize("read", [Trial.read, SeedResult.read, read_settings])
def test_a_file_of_a_trial_of_another_release_is_refused(tmp_path, read):
    path = tmp_path / "file.json"
    path.write_text(json.dumps({**FOUND[0].kept(), "format": 0}), encoding="utf-8")
    with pytest.raises(VersionError, match=r"has format 0 .*older.*remove the study's folder"):
        read(path)
