"""Covers, beside `task_search`: `spec.stability_decay`.

What a search trains with next and what it decides, by hand-made scores.
"""

import pytest

from ratchet.pipelines.errors import DivergedError
from ratchet.pipelines.spec.stability_decay import StabilityDecaySpec
from ratchet.pipelines.training.task_search import Setting, TaskSearch, Training


def searched(scores, rates=(), strengths=None, **settings):
    """A search that was fed scores until it wanted no more, and what it asked for."""
    search = TaskSearch(StabilityDecaySpec(**settings), rates, strengths or {})
    asked, left = [], list(scores)
    while (setting := search.wanted()) is not None:
        asked.append(setting)
        search.trainings.append(Training(setting, left.pop(0), 1.0))
    assert left == [], "every score was asked for"
    return search, asked


def test_the_best_rate_is_taken_then_the_strength_falls_until_enough_is_learned():
    # A_ft = .9 at 1e-3, so that .72 is enough; 8, 4, 2 are tried.
    search, asked = searched([0.5, 0.9, 0.7, 0.1, 0.71, 0.72], [1e-4, 1e-3, 1e-2], {"ewc": 8.0})
    assert asked == [
        Setting(1e-4),
        Setting(1e-3),
        Setting(1e-2),
        Setting(1e-3, {"ewc": 8.0}),
        Setting(1e-3, {"ewc": 4.0}),
        Setting(1e-3, {"ewc": 2.0}),
    ]
    assert search.decided() == Setting(1e-3, {"ewc": 2.0})
    record = search.record()
    assert record.fine_tuned == 0.9
    assert record.needed == pytest.approx(0.72)
    assert [one.accepted for one in record.strengths] == [False, False, True]
    assert record.accepted is True


def test_strengths_of_several_methods_fall_together():
    _, asked = searched([0.5, 0.1, 0.5], [1e-3], {"ewc": 8.0, "lwf": 2.0}, factor=0.25)
    assert [s.strengths for s in asked[1:]] == [{"ewc": 8.0, "lwf": 2.0}, {"ewc": 2.0, "lwf": 0.5}]


def test_without_a_strength_to_find_only_rates_are_tried():
    search, asked = searched([0.5, 0.6], [1e-4, 1e-3])
    assert len(asked) == 2
    assert search.decided() == Setting(1e-3)
    assert search.record().needed is None


def test_the_lowest_of_equally_good_rates_is_taken():
    search, _ = searched([0.8, 0.9, 0.9], [1e-2, 1e-4, 1e-3])
    assert [t.setting.learning_rate for t in search.plain] == [1e-4, 1e-3, 1e-2]
    assert search.decided().learning_rate == 1e-3


def test_after_the_last_attempt_its_strength_is_taken_and_said_not_to_be_enough():
    search, asked = searched([1.0, 0.1, 0.2, 0.3], [1e-3], {"si": 8.0}, max_attempts=3)
    assert len(asked) == 4
    assert search.decided().strengths == {"si": 2.0}
    assert search.record().accepted is False


@pytest.mark.parametrize(
    ("fine_tuned", "score", "tolerance"),
    [(0.75, 0.6, 0.2), (0.3, 0.27, 0.1), (1.0, 1.0, 0.0), (0.0, 0.0, 0.2)],
)
def test_exactly_enough_is_enough_whatever_the_rounding(fine_tuned, score, tolerance):
    search, _ = searched([fine_tuned, score], [1e-3], {"ewc": 1.0}, tolerance=tolerance)
    assert search.record().accepted is True


def test_a_training_that_diverged_is_never_taken():
    search, asked = searched([None, 0.5, None, 0.5], [1e-4, 1e-3], {"ewc": 8.0})
    assert search.decided() == Setting(1e-3, {"ewc": 4.0})
    assert len(asked) == 4


def test_rates_that_all_diverge_are_an_error_that_says_what_to_do():
    search = TaskSearch(StabilityDecaySpec(), [1.0, 2.0], {})
    while len(search.trainings) < 2:
        setting = search.wanted()
        assert setting is not None
        search.trainings.append(Training(setting, None, 0.1))
    with pytest.raises(DivergedError, match=r"\(1, 2\): set lower ones in stability_decay"):
        search.decided()


@pytest.mark.parametrize("cut", range(7))
def test_a_search_goes_on_from_its_trainings_alone(cut):
    scores = [0.5, 0.9, 0.7, 0.1, 0.71, 0.72]
    arguments = (StabilityDecaySpec(), [1e-4, 1e-3, 1e-2], {"ewc": 8.0})
    whole, asked = searched(scores, *arguments[1:])
    again = TaskSearch(*arguments, whole.trainings[:cut])
    assert again.wanted() == (asked[cut] if cut < len(asked) else None)
