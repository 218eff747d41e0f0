from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.methods.whole_rows import Owed


@given(st.lists(st.floats(0, 5), max_size=200))
def test_over_any_steps_less_than_a_row_is_owed_and_none_is_made_up(amounts):
    owed, taken = Owed(), 0
    for total in (sum(amounts[: i + 1]) for i in range(len(amounts))):
        taken += owed.take(total - taken - owed.rest)
        assert total - 1 - 1e-6 <= taken <= total + 1e-6


def test_three_thirds_are_a_row():
    owed = Owed()
    assert [owed.take(1 / 3) for _ in range(6)] == [0, 0, 1, 0, 0, 1]
