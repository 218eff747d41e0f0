import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.evaluation.paired import (
    holm,
    loss_told,
    mid_p,
    mid_p_loss,
    p_above,
    rows_to_tell,
    score_interval,
    score_statistic,
)


@st.composite
def tables(draw):
    number = draw(st.integers(1, 300))
    lost = draw(st.integers(0, number))
    return lost, draw(st.integers(0, number - lost)), number


# The intervals of a rise are those of a loss with the two counts exchanged.
PUBLISHED_INTERVALS = [
    # Tango 1998, section 6.1 (soft contact lenses): one of 44 pairs; prints -0.096 as its lower.
    ((1, 0, 44, 0.90), (None, 0.096), 5e-4),
    # Newcombe's worked spreadsheet of Tango's interval: N = 50, b = 12, c = 2.
    ((12, 2, 50, 0.95), (0.0611, 0.3447), 5e-5),
    # Fagerland, Lydersen and Laake 2014, airway hyper-responsiveness (Bentur 2009), and complete
    # response (Cavo 2012; the digits are of their R package contingencytables).
    ((1, 7, 21, 0.95), (-0.517, -0.026), 5e-4),
    ((6, 16, 161, 0.95), (-0.1240, -0.0054), 5e-5),
    # R, PropCIs::scoreci.mp(0, 7, 14).
    ((7, 0, 14, 0.95), (0.177034, 0.732008), 1e-6),
]


@pytest.mark.parametrize(("table", "interval", "within"), PUBLISHED_INTERVALS)
def test_the_interval_agrees_with_published_ones(table, interval, within):
    for found, published in zip(score_interval(*table), interval, strict=True):
        assert published is None or abs(found - published) < within


def test_the_statistic_agrees_with_the_worked_example_of_its_paper():
    # No inferiority by 0.1 or more: Z = 1.709, one-sided p = 0.044.
    assert score_statistic(1, 0, 44, 0.1) == pytest.approx(-1.709, abs=5e-4)
    assert 1 - p_above(1, 0, 44, 0.1) == pytest.approx(0.044, abs=5e-4)


@given(tables(), st.floats(0.55, 0.999))
def test_the_interval_is_the_test_turned_around(table, confidence):
    low, high = score_interval(*table, confidence)
    assert -1 <= low <= (table[0] - table[1]) / table[2] <= high <= 1
    tail = (1 - confidence) / 2
    if low > -1 + 1e-6:
        assert p_above(*table, low - 1e-7) < tail < p_above(*table, low + 1e-7)
    if high < 1 - 1e-6:
        assert p_above(*table, high - 1e-7) < 1 - tail < p_above(*table, high + 1e-7)


@given(tables(), st.floats(0.55, 0.999))
def test_exchanging_lost_and_gained_turns_everything_round(table, confidence):
    lost, gained, number = table
    low, high = score_interval(lost, gained, number, confidence)
    mirrored = score_interval(gained, lost, number, confidence)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)
    assert mid_p(lost, gained) == pytest.approx(mid_p(gained, lost))
    assert mid_p_loss(lost, gained) + mid_p_loss(gained, lost) == pytest.approx(1)


@given(tables())
def test_more_confidence_gives_a_wider_interval_around_the_other(table):
    intervals = [score_interval(*table, confidence) for confidence in (0.6, 0.8, 0.95, 0.99)]
    for (low, high), (wider_low, wider_high) in pairwise(intervals):
        assert wider_low <= low
        assert high <= wider_high


@given(st.integers(2, 200), st.data())
def test_more_rows_lost_never_look_better(number, data):
    gained = data.draw(st.integers(0, number - 1))
    lost = data.draw(st.integers(0, number - gained - 1))
    fewer = score_interval(lost, gained, number, 0.95)
    more = score_interval(lost + 1, gained, number, 0.95)
    assert all(own <= next_own + 1e-9 for own, next_own in zip(fewer, more, strict=True))
    assert mid_p_loss(lost + 1, gained) <= mid_p_loss(lost, gained)


def test_where_nothing_changed_the_interval_has_the_width_of_the_rows():
    z = 1.959963984540054
    for number in (1, 20, 400):
        bound = z * z / (number + z * z)
        assert score_interval(0, 0, number, 0.95) == pytest.approx((-bound, bound))


def test_where_every_row_changed_the_interval_ends_at_the_edge():
    assert score_interval(20, 0, 20, 0.95) == (pytest.approx(0.67775, abs=1e-5), 1.0)
    assert score_interval(0, 20, 20, 0.95) == (-1.0, pytest.approx(-0.67775, abs=1e-5))


@pytest.mark.parametrize("counts", [(1, 0, 0), (-1, 0, 5), (0, -1, 5), (3, 3, 5)])
def test_counts_that_cannot_be_are_refused(counts):
    with pytest.raises(ValueError, match="impossible"):
        score_interval(*counts, 0.95)
    with pytest.raises(ValueError, match="impossible"):
        score_statistic(*counts, 0.0)


@pytest.mark.parametrize("confidence", [0, 1, -0.5, math.nan])
def test_a_confidence_is_a_share_of_some(confidence):
    with pytest.raises(ValueError, match="confidence"):
        score_interval(1, 0, 5, confidence)


def binomial(number, share):
    return [
        math.comb(number, k) * share**k * (1 - share) ** (number - k) for k in range(number + 1)
    ]


def covered(number, gained_share, loss, confidence=0.95):
    """The probability of an interval that holds the true loss, over all outcomes."""
    lost_share, total = gained_share + loss, 0.0
    for lost, probability in enumerate(binomial(number, lost_share)):
        rest = number - lost
        for gained, own in enumerate(binomial(rest, gained_share / (1 - lost_share))):
            if probability * own < 1e-9:
                continue
            low, high = score_interval(lost, gained, number, confidence)
            total += probability * own * (low <= loss <= high)
    return total


@pytest.mark.parametrize("number", [20, 50, 100])
@pytest.mark.parametrize("gained_share", [0.01, 0.03, 0.05])
@pytest.mark.parametrize("loss", [0.0, 0.02, 0.05])
def test_the_interval_covers_what_it_says(number, gained_share, loss):
    assert 0.93 <= covered(number, gained_share, loss) <= 1.0


# Airway hyper-responsiveness of Fagerland, Lydersen and Laake 2013, and complete response as their
# R package contingencytables gives it.
@pytest.mark.parametrize(
    ("lost", "gained", "published", "within"), [(1, 7, 0.039, 5e-4), (6, 16, 0.034690, 5e-7)]
)
def test_the_mid_p_test_agrees_with_published_ones(lost, gained, published, within):
    assert mid_p(lost, gained) == pytest.approx(published, abs=within)


def test_the_mid_p_test_by_hand():
    assert mid_p(1, 7) == 2 * ((1 + 8) - 4) / 2**8
    assert mid_p_loss(2, 1) == (1 + 3 / 2) / 2**3 + (1 + 3 - 3 - 1) / 2**3
    assert mid_p_loss(1, 7) == pytest.approx(1 - 5 / 2**8)
    assert (mid_p(0, 0), mid_p_loss(0, 0)) == (1.0, 0.5)
    assert mid_p(3000, 3000) == 1.0
    assert 0 < mid_p_loss(3100, 2900) < 0.01


def test_counts_below_none_have_no_probability():
    with pytest.raises(ValueError, match="not negative"):
        mid_p(-1, 2)


def test_holm_steps_down_from_the_smallest():
    # Holm 1979 by hand: 4 * 0.005, then the largest so far of 3 * 0.01, 2 * 0.03, 1 * 0.04.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.7, 0.6]) == [1.0, 1.0]
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_lies_between_the_value_and_bonferroni(values):
    adjusted = holm(values)
    assert all(
        own <= new <= min(1, len(values) * own) for own, new in zip(values, adjusted, strict=True)
    )
    ranked = sorted(range(len(values)), key=values.__getitem__)
    assert [adjusted[i] for i in ranked] == sorted(adjusted)


@pytest.mark.parametrize(("loss", "gained_share"), [(0.1, 0.05), (0.2, 0.05), (0.05, 0.1)])
def test_so_many_rows_tell_the_loss_as_often_as_asked(loss, gained_share):
    number = rows_to_tell(loss, loss + 2 * gained_share, 0.95, power=0.8)
    lost_share, told = gained_share + loss, 0.0
    for lost, probability in enumerate(binomial(number, lost_share)):
        for gained, own in enumerate(binomial(number - lost, gained_share / (1 - lost_share))):
            if probability * own > 1e-9:
                low, _ = score_interval(lost, gained, number, 0.95)
                told += probability * own * (low > 0)
    assert 0.74 <= told <= 0.9


def test_smaller_losses_and_more_churn_take_more_rows():
    assert rows_to_tell(0.02, 0.05, 0.95) > rows_to_tell(0.05, 0.05, 0.95)
    assert rows_to_tell(0.02, 0.10, 0.95) > rows_to_tell(0.02, 0.05, 0.95)
    assert rows_to_tell(0.02, 0.05, 0.99) > rows_to_tell(0.02, 0.05, 0.95)
    assert rows_to_tell(0.02, 0.0, 0.95) == rows_to_tell(0.02, 0.02, 0.95)
    assert rows_to_tell(1.0, 1.0, 0.95) == 4


@pytest.mark.parametrize(
    "arguments", [(0, 0.1, 0.95), (0.02, 1.1, 0.95), (0.02, 0.1, 1.0), (0.02, 0.1, 0.95, 0)]
)
def test_rows_are_not_told_of_what_is_no_share(arguments):
    with pytest.raises(ValueError, match=r"share|between"):
        rows_to_tell(*arguments)


@pytest.mark.parametrize("num_rows", [1, 36, 200, 2000])
@pytest.mark.parametrize("discordance", [0.0, 0.06, 0.3])
def test_the_loss_that_rows_tell_is_the_smallest_that_needs_no_more(num_rows, discordance):
    loss = loss_told(num_rows, discordance, 0.95)
    assert 0 < loss <= 1
    if loss < 1:
        assert rows_to_tell(loss, discordance, 0.95) <= num_rows
        assert rows_to_tell(loss * 0.99, discordance, 0.95) > num_rows
    with pytest.raises(ValueError, match="tell nothing"):
        loss_told(0, discordance, 0.95)
