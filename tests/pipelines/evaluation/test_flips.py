import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.evaluation.flips import (
    flip_rate,
    pack_right,
    stage_flip_rates,
    unpack_right,
    update_flip_rate,
)


def right(text):
    return pack_right(int(letter) for letter in text)


@given(st.lists(st.booleans(), max_size=40))
def test_what_was_packed_is_unpacked(values):
    assert unpack_right(pack_right(values)).tolist() == values


def test_the_vector_of_the_definition():
    new, old, labels = [1, 3, 0, 3], [2, 1, 0, 2], [3, 3, 0, 2]
    before = {"a": pack_right(o == t for o, t in zip(old, labels, strict=True))}
    after = {"a": pack_right(n == t for n, t in zip(new, labels, strict=True))}
    assert flip_rate(before, after, ["a"]) == 0.25


def test_rows_count_once_each_whatever_their_task():
    before = {"small": right("11"), "large": right("11111111")}
    after = {"small": right("00"), "large": right("11111111")}
    assert flip_rate(before, after, before) == pytest.approx(2 / 10)


def test_what_became_right_is_no_flip():
    assert flip_rate({"a": right("0011")}, {"a": right("1111")}, ["a"]) == 0.0


ROWS = [
    {"a": right("1110")},
    {"a": right("1010"), "b": right("11")},
    {"a": right("1100"), "b": right("01"), "c": right("1")},
]
STAGES = [["a"], ["b"], ["c"]]


def test_every_stage_is_held_against_the_one_before():
    assert stage_flip_rates(ROWS, STAGES, {}) == [None, 1 / 4, 2 / 6]


def test_an_update_is_held_against_what_was_learned():
    assert update_flip_rate(ROWS, STAGES, {}) == pytest.approx(2 / 6 - 0 / 6)
    # a: 1110 -> 1100 one flip; b: 11 -> 01 one flip


def test_old_tasks_are_held_against_the_champion():
    champion = {"old": right("1111")}
    rows = [
        row | {"old": right(end)} for row, end in zip(ROWS, ("1110", "1111", "0011"), strict=True)
    ]
    assert stage_flip_rates(rows, STAGES, champion)[0] == 1 / 4
    assert update_flip_rate(rows, STAGES, champion) == pytest.approx((2 + 1 + 1) / (4 + 4 + 2))


def test_one_stage_without_a_champion_has_nothing_to_flip():
    assert update_flip_rate(ROWS[:1], STAGES[:1], {}) is None
