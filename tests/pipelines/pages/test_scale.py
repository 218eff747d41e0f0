from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.pages.scale import DURATIONS, Scale, Tick, apart
from ratchet.pipelines.pages.words import short_duration


def labels(ticks):
    return [tick.label for tick in ticks]


def test_ticks_of_time_are_at_times_that_one_says_in_short():
    scale = Scale(-21_000.0, 0.0, 126.0, 10.0)
    ticks = scale.ticks(lambda value: short_duration(-value), 3, steps=DURATIONS)
    assert labels(ticks) == ["4 h", "2 h", "0 s"]  # 7000 s apart would be about three


def test_a_tick_that_would_touch_the_one_before_is_left_out():
    near = [Tick(0.0, "20 min"), Tick(30.0, "30 min"), Tick(80.0, "1 h"), Tick(160.0, "2 h")]
    assert labels(apart(near)) == ["20 min", "1 h", "2 h"]


@given(st.lists(st.floats(0, 800), max_size=20), st.integers(1, 10))
def test_ticks_that_are_left_do_not_touch(places, length):
    found = apart([Tick(place, "x" * length) for place in sorted(places)])
    gaps = [second.at - first.at for first, second in pairwise(found)]
    assert all(gap >= 6.0 * length for gap in gaps)
    assert len(found) >= min(1, len(places))
