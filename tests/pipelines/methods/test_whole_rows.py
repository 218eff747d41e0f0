from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.methods.whole_rows import WholeRows


@given(st.lists(st.floats(0, 5), max_size=200))
def test_over_any_steps_less_than_a_row_is_owed_and_none_is_made_up(amounts):
    rows, taken = WholeRows(), 0
    for total in (sum(amounts[: i + 1]) for i in range(len(amounts))):
        taken += rows.take(total - taken - rows.rest)
        assert total - 1 - 1e-6 <= taken <= total + 1e-6


def test_three_thirds_are_a_row():
    rows = WholeRows()
    assert [rows.take(1 / 3) for _ in range(6)] == [0, 0, 1, 0, 0, 1]
