import pytest

from ratchet.pipelines.pages.search_record import (
    Decided,
    RateTried,
    SearchRecord,
    StrengthsTried,
)
from tests.pipelines.reports import make_report

SEARCH = {
    "banking": SearchRecord(
        learning_rates=(
            RateTried(1e-4, 0.5, 20.0),
            RateTried(1e-3, 0.9, 20.0),
            RateTried(1e-2, None, 5.0),
        ),
        fine_tuned=0.9,
        needed=0.72,
        strengths=(
            StrengthsTried({"ewc": 1e5}, 0.25, False, 30.0),
            StrengthsTried({"ewc": 5e4}, 0.75, True, 30.0),
        ),
        accepted=True,
        decided=Decided(1e-3, {"ewc": 5e4}),
    ),
    "travel": SearchRecord(
        learning_rates=(RateTried(1e-3, 0.8, 20.0),),
        fine_tuned=0.8,
        needed=0.64,
        strengths=(StrengthsTried({"ewc": 5e4}, 0.5, False, 30.0),),
        accepted=False,
        decided=Decided(1e-3, {"ewc": 5e4}),
    ),
}


@pytest.fixture
def search():
    """What was searched for two tasks: the second never learned enough."""
    return SEARCH


@pytest.fixture
def report():
    """Makes the data of a report; see `make_report`."""
    return make_report
