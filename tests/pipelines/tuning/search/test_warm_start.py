import json
import os

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.tuning.page.files import FORMAT, STUDY_FILE
from ratchet.pipelines.tuning.search.warm_start import DONE_FILE, tried_first
from tests.pipelines.tuning.trials import RATE, STRENGTH, failed, study, trial


def settings(rate):
    return {RATE: rate, STRENGTH: 10.0}


def write_study(place, name, when, *trials, **tune):
    """A finished study of these trials, and when it ended."""
    folder = place / name
    folder.mkdir()
    found = {"format": FORMAT, **study(trials, **tune).as_dict()}
    (folder / STUDY_FILE).write_text(json.dumps(found), encoding="utf-8")
    (folder / DONE_FILE).touch()
    os.utime(folder / DONE_FILE, (when, when))


def found_at(rate, number=0, forgetting=0.1):
    return trial(number, 0.5 + forgetting, forgetting, settings=settings(rate))


def test_a_study_that_goes_on_tries_first_what_it_did_when_it_began(tmp_path):
    asks, said = study([], warm_start=True).tune, []
    own = tmp_path / "own"
    own.mkdir()
    write_study(tmp_path, "older", 1000, found_at(1e-5))
    write_study(tmp_path, "latest", 2000, found_at(1e-3))
    assert tried_first(own, asks, said.append) == [settings(1e-3)]
    assert said == ["warm start: the front of study latest is tried first (1 settings)"]
    write_study(tmp_path, "later", 3000, found_at(1e-2))
    assert tried_first(own, asks, said.append) == [settings(1e-3)]
    assert len(said) == 1
    other = tmp_path / "other"
    other.mkdir()
    assert tried_first(other, asks, said.append) == [settings(1e-2)]


def test_a_study_that_did_not_ask_for_it_tries_nothing_first(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    write_study(tmp_path, "older", 1000, found_at(1e-5))
    assert tried_first(own, study([]).tune, print) == ()
    assert list(own.iterdir()) == []


@pytest.mark.parametrize(
    "later",
    [
        pytest.param((), id="no time for a trial"),
        pytest.param((failed(0),), id="failures only"),
        pytest.param((found_at("auto"),), id="settings of stability decay"),
        pytest.param((found_at(0.5),), id="outside of the space"),
    ],
)
def test_a_study_without_a_front_in_the_space_gives_way_to_an_older_one(tmp_path, later):
    own, said = tmp_path / "own", []
    own.mkdir()
    found = (found_at(1e-3), found_at(1e-4, 1, 0.2), found_at(0.7, 2, 0.3))
    write_study(tmp_path, "older", 1000, *found)
    write_study(tmp_path, "later", 2000, *later)
    asks = study([], warm_start=True).tune
    assert tried_first(own, asks, said.append) == [settings(1e-4), settings(1e-3)]
    assert said == ["warm start: the front of study older is tried first (2 settings)"]


def test_where_no_study_has_a_front_that_is_said(tmp_path):
    own, said = tmp_path / "own", []
    own.mkdir()
    write_study(tmp_path, "older", 1000, failed(0))
    assert tried_first(own, study([], warm_start=True).tune, said.append) == []
    assert "nothing is tried first" in said[0]


def test_what_decides_by_itself_has_no_warm_start(tmp_path):
    own, said = tmp_path / "own", []
    own.mkdir()
    write_study(tmp_path, "older", 1000, found_at(1e-3))
    asks = study([], warm_start=True, strategy="stability_decay").tune
    assert (tried_first(own, asks, said.append), said) == ((), [])


def test_a_study_that_another_release_wrote_is_refused(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    write_study(tmp_path, "older", 1000, found_at(1e-5))
    path = tmp_path / "older" / STUDY_FILE
    raw = json.loads(path.read_text(encoding="utf-8")) | {"format": FORMAT + 1}
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(VersionError, match=r"has format 2 .*newer.*warm_start: false"):
        tried_first(own, study([], warm_start=True).tune, print)
