import json
import os

from pipelines.tuning.earlier import DONE_FILE, tried_first
from pipelines.tuning.study import STUDY_FILE
from tests.pipelines.tuning.trials import RATE, study, trial


def write_study(place, name, rate, when):
    """A finished study whose front is one trial, and when it ended."""
    folder = place / name
    folder.mkdir()
    found = study([trial(0, 0.9, 0.1, settings={RATE: rate})]).as_dict()
    (folder / STUDY_FILE).write_text(json.dumps(found), encoding="utf-8")
    (folder / DONE_FILE).touch()
    os.utime(folder / DONE_FILE, (when, when))


def test_a_study_that_goes_on_tries_first_what_it_did_when_it_began(tmp_path):
    asks = study([], warm_start=True).tune
    own = tmp_path / "own"
    own.mkdir()
    write_study(tmp_path, "older", 1e-5, when=1000)
    write_study(tmp_path, "latest", 1e-3, when=2000)
    assert tried_first(own, asks) == [{RATE: 1e-3}]
    write_study(tmp_path, "later", 1e-2, when=3000)
    assert tried_first(own, asks) == [{RATE: 1e-3}]
    other = tmp_path / "other"
    other.mkdir()
    assert tried_first(other, asks) == [{RATE: 1e-2}]


def test_a_study_that_did_not_ask_for_it_tries_nothing_first(tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    write_study(tmp_path, "older", 1e-5, when=1000)
    assert tried_first(own, study([]).tune) == ()
    assert list(own.iterdir()) == []
