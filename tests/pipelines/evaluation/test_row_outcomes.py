import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.evaluation.flips import pack_scores
from ratchet.pipelines.evaluation.row_outcomes import (
    Pairs,
    RowOutcomes,
    ServedLoss,
    compare,
    served_loss,
)
from tests.pipelines.evaluation.outcomes import outcomes


def test_what_changed_is_counted_by_hand():
    before, after = outcomes("111000011"), outcomes("100010010")
    assert compare(before, after, "own") == Pairs(lost=3, gained=1, before=5, num_rows=9)


def bits_of_one_length(number):
    return st.lists(st.text("01", min_size=number, max_size=number), min_size=4, max_size=4)


@given(st.integers(1, 20).flatmap(bits_of_one_length))
def test_the_parts_of_a_served_loss_add_up_to_it(texts):
    old, new, other, rejected = texts
    before, after = outcomes(old, old), outcomes(new, new, other, rejected)
    pairs, parts = compare(before, after, "served"), served_loss(before, after)
    assert parts.other_task + parts.rejected + parts.within_task == pairs.lost
    assert compare(after, before, "served").gained == pairs.lost


def test_a_served_loss_is_told_in_its_parts():
    before = outcomes("111111", "111110")
    after = outcomes("111111", "100000", other="010000", rejected="011001")
    assert served_loss(before, after) == ServedLoss(other_task=0, rejected=2, within_task=2)
    unsaid = outcomes("111111", "100000")
    assert served_loss(before, unsaid) == ServedLoss(0, 0, 4)


@pytest.mark.parametrize(
    ("before", "after", "measure"),
    [
        (outcomes("11"), outcomes("11", rows="another"), "own"),
        (outcomes("11"), outcomes("111"), "own"),
        (outcomes("11", "11"), outcomes("11"), "served"),
        (outcomes("11"), outcomes("11", "11"), "served"),
    ],
)
def test_only_the_same_rows_are_compared(before, after, measure):
    with pytest.raises(ValueError, match="different rows"):
        compare(before, after, measure)


@pytest.mark.parametrize(
    "given", [outcomes("101"), outcomes("", ""), outcomes("1010" * 5, "1" * 20, "0" * 20, "0" * 20)]
)
def test_what_a_version_keeps_is_read_again(given):
    assert RowOutcomes.from_dict(json.loads(json.dumps(given.as_dict())), "a version") == given


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"own": "3:zz"}, "non-hexadecimal"),
        ({"own": "three:e0"}, "does not say of each row"),
        ({"own": "30:e0"}, "does not say of each row"),
        ({"served": "4:e0"}, r"outcomes of \[3, 4\] rows"),
        ({"rows": None}, "rows"),
    ],
)
def test_broken_outcomes_are_named_with_where_they_were_read(change, says):
    raw = outcomes("101").as_dict() | change
    with pytest.raises(VersionError, match=f"a version is broken.*{says}.*restore"):
        RowOutcomes.from_dict(raw, "a version")


def test_raw_text_is_compared_by_the_shares_of_its_rows():
    before = RowOutcomes("rows", pack_scores([0.4, 0.6, 0.8, 0.2]), None)
    after = RowOutcomes("rows", pack_scores([0.2, 0.6, 0.6, 0.4]), None)
    pairs = compare(before, after, "own")
    assert before.is_shares
    assert before.num_rows == 4
    assert before.num_right("own") == pytest.approx(2.0, abs=0.01)
    assert pairs.loss == pytest.approx(0.05, abs=0.005)
    assert (pairs.lost, pairs.gained) == pytest.approx((0.4, 0.2), abs=0.01)
    low, high = pairs.interval(0.95)
    assert low < 0 < pairs.loss < high < 0.3
    assert pairs.p_loss() + pairs.p_gain() == pytest.approx(1.0)
    assert pairs.p_loss() < 0.5
    same = compare(before, before, "own")
    assert same.loss == 0
    assert same.interval(0.95)[1] > 0, "four rows without a change do not prove that none will"


def test_shares_are_only_compared_on_the_same_rows():
    before = RowOutcomes("rows", pack_scores([0.4, 0.6]), None)
    with pytest.raises(ValueError, match="different rows"):
        compare(before, RowOutcomes("others", pack_scores([0.4, 0.6]), None), "own")
