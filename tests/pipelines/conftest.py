import pytest

SEARCH = {
    "banking": {
        "learning_rates": [
            {"learning_rate": 1e-4, "score": 0.5, "seconds": 20.0},
            {"learning_rate": 1e-3, "score": 0.9, "seconds": 20.0},
            {"learning_rate": 1e-2, "score": None, "seconds": 5.0},
        ],
        "fine_tuned": 0.9,
        "needed": 0.72,
        "strengths": [
            {"strengths": {"ewc": 1e5}, "score": 0.25, "accepted": False, "seconds": 30.0},
            {"strengths": {"ewc": 5e4}, "score": 0.75, "accepted": True, "seconds": 30.0},
        ],
        "accepted": True,
        "decided": {"learning_rate": 1e-3, "strengths": {"ewc": 5e4}},
    },
    "travel": {
        "learning_rates": [{"learning_rate": 1e-3, "score": 0.8, "seconds": 20.0}],
        "fine_tuned": 0.8,
        "needed": 0.64,
        "strengths": [
            {"strengths": {"ewc": 5e4}, "score": 0.5, "accepted": False, "seconds": 30.0}
        ],
        "accepted": False,
        "decided": {"learning_rate": 1e-3, "strengths": {"ewc": 5e4}},
    },
}


@pytest.fixture
def search():
    """What was searched for two tasks: the second never learned enough."""
    return SEARCH
