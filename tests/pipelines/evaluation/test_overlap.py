"""ROUGE-L against values worked out by hand."""

import pytest

from ratchet.pipelines.evaluation.overlap import rouge_l


@pytest.mark.parametrize(
    ("given", "wanted", "score"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),  # 3 of 4 and 4
        ("the gunman kill police", "police kill the gunman", 0.5),  # "the gunman": 2 of 4 and 4
        ("a b c d", "a x c", 4 / 7),  # "a c": 2 * 2 / (4 + 3)
        ("The Rain, today!", "the rain today", 1.0),
        ("", "the rain", 0.0),
        ("the rain", "", 0.0),
        ("", "", 1.0),
        ("!", "?", 0.0),
        ("a a a", "a", 0.5),  # 2 * 1 / (3 + 1)
    ],
)
def test_the_longest_common_subsequence_as_an_f_measure(given, wanted, score):
    assert rouge_l(given, wanted) == pytest.approx(score)
    assert rouge_l(wanted, given) == pytest.approx(score)
