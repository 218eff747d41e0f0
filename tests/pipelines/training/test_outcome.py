import json

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.evaluation.calibration import Calibration, RoutedRows
from ratchet.pipelines.evaluation.instruments import (
    Findings,
    ForgettingEvents,
    Retention,
    TaskEvents,
)
from ratchet.pipelines.evaluation.learned_answers import LearnedAnswers, ServedBits
from ratchet.pipelines.report.data import ColumnSizes, ForgottenExample
from ratchet.pipelines.training.outcome import (
    OUTCOME_FILE,
    Outcome,
    has_outcome,
    read_outcome,
    write_outcome,
)
from tests.pipelines.conftest import SEARCH

SCORES = {"banking": {"validation_own": 0.5, "validation_all": None, "num_validation": 12}}
RIGHT = {"own": {"banking": "4:f0"}, "all": {}}


def outcome(instruments):
    return Outcome(
        scores=(SCORES,),
        costs={"start": {"load_seconds": 1.5}, "banking": {"train_seconds": 2.0}},
        before={"total_parameters": 10.0, "stored_bytes": 0.0},
        columns={"banking": ColumnSizes(3, 2, 1, {})},
        search=SEARCH,
        strengths={"ewc": 5e4},
        baseline={},
        instruments=instruments,
        right=(RIGHT,),
        learned={"banking": LearnedAnswers("4:f0", {"routed": ServedBits("4:e0", "4:10", "4:00")})},
        held={"banking": "4:f0", "poems": "shares:00ff80"},
        calibration=Calibration(-3.25, {"banking": RoutedRows(12, 11, 10)}),
        precision="fp32",
        base_sha256="ab",
        total_parameters=11,
    )


@pytest.mark.parametrize(
    "instruments",
    [
        Findings(),
        Findings(
            {"banking": 0.75},
            ForgettingEvents(
                {"banking": TaskEvents(0.25, 1, 12)},
                (ForgottenExample("banking", "balance", "my money", 3, False),),
            ),
            Retention(0.5, 0.25),
        ),
    ],
)
def test_the_driver_reads_what_the_workers_wrote(tmp_path, instruments):
    assert not has_outcome(tmp_path)
    write_outcome(tmp_path, outcome(instruments))
    assert has_outcome(tmp_path)
    assert read_outcome(tmp_path) == outcome(instruments)
    kept = read_outcome(tmp_path).scores[0]["banking"]["num_validation"]
    assert type(kept) is int, "counts stay counts"


def test_an_instrument_that_was_not_asked_for_is_not_in_the_file():
    assert outcome(Findings()).to_json()["instruments"] == {}


def test_the_outcome_of_another_release_is_refused(tmp_path):
    other = outcome(Findings()).to_json() | {"format": 3}
    (tmp_path / OUTCOME_FILE).write_text(json.dumps(other), encoding="utf-8")
    with pytest.raises(VersionError, match=r"has format 3 .* newer release .*teach it again"):
        read_outcome(tmp_path)
