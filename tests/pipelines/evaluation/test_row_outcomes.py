import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.errors import VersionError
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
