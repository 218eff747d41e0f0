import pytest

from ratchet.pipelines.pages import words


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0%"), (0.9344, "93.4%"), (1.0, "100.0%"), (None, "–")],
)
def test_percent(value, text):
    assert words.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.05, "+5.0"), (-0.0751, "−7.5"), (0.0, "±0.0"), (-0.0001, "±0.0"), (None, "–")],
)
def test_points(value, text):
    assert words.points(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.05, "5.0"), (-0.05, "−5.0"), (-0.0001, "0.0")])
def test_loss(value, text):
    assert words.loss(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (999, "999"),
        (298752, "298\u202f752"),
        (9_999_999, "9\u202f999\u202f999"),
        (22_713_216, "22.7 M"),
        (None, "–"),
    ],
)
def test_count(value, text):
    assert words.count(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_400, "99.4 kB"),
        (99_600, "100 kB"),
        (999_600, "1.0 MB"),
        (812_000_000, "812 MB"),
        (3_200_000_000_000, "3.2 TB"),
        (None, "–"),
    ],
)
def test_size(value, text):
    assert words.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.04, "0.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (88.1, "1 min 28 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (7380, "2 h 3 min"),
        (None, "–"),
    ],
)
def test_duration(value, text):
    assert words.duration(value) == text
