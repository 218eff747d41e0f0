"""Covers `run_state`, `search_file`."""

import json

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.evaluation.learned_answers import LearnedAnswers, ServedBits
from ratchet.pipelines.training.loop import Position
from ratchet.pipelines.training.run_state import RunState, read_run_state, write_run_state
from ratchet.pipelines.training.search_file import read_trainings, write_trainings
from ratchet.pipelines.training.task_search import Setting, Training
from tests.pipelines.conftest import SEARCH

STATE = RunState(
    stages_done=1,
    in_stage=True,
    position=Position(2, 3),
    schedule=7,
    scores=({"banking": {"validation_own": 0.5, "num_validation": 12}},),
    costs={"banking": {"train_seconds": 1.25}},
    baseline={},
    search=SEARCH,
    right=({"own": {"banking": "4:f0"}, "all": {}},),
    learned={"banking": LearnedAnswers("4:f0", {"routed": ServedBits("4:e0", "4:10", "4:00")})},
    held={"banking": "4:f0"},
    sharded={"model/weight": ("weight", "float32")},
)


def test_a_checkpoint_gives_back_where_the_run_stood(tmp_path):
    write_run_state(tmp_path / "state.json", STATE)
    assert read_run_state(tmp_path / "state.json") == STATE


def test_trainings_of_a_search_are_given_back(tmp_path):
    done = {
        "banking": [
            Training(Setting(1e-3), None, 0.5),
            Training(Setting(1e-3, {"ewc": 8.0}), 0.75, 1.5),
        ]
    }
    write_trainings(tmp_path / "search.json", done)
    assert read_trainings(tmp_path / "search.json") == done


@pytest.mark.parametrize(
    ("name", "write", "read"),
    [
        ("state.json", lambda path: write_run_state(path, STATE), read_run_state),
        ("search.json", lambda path: write_trainings(path, {}), read_trainings),
    ],
)
def test_what_another_release_began_is_refused(tmp_path, name, write, read):
    path = tmp_path / name
    write(path)
    raw = json.loads(path.read_text(encoding="utf-8")) | {"format": 0}
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(VersionError, match=r"has format 0 .* older release .*begin it again"):
        read(path)
