import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.evaluation.as_served import OutOfScopeRows
from ratchet.pipelines.evaluation.scope import judge_scope, share_interval
from ratchet.pipelines.spec.update_spec import GateSpec


@pytest.mark.parametrize(
    ("number", "num_rows", "low", "high"),
    # Newcombe 1998, Statistics in Medicine 17:857, table I: method 3, the score interval.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_interval_of_a_share_is_the_published_one(number, num_rows, low, high):
    assert share_interval(number, num_rows, 0.95) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share_and_is_symmetric(counts):
    number, num_rows = counts
    low, high = share_interval(number, num_rows, 0.95)
    assert 0 <= low <= number / num_rows <= high <= 1
    other = share_interval(num_rows - number, num_rows, 0.95)
    assert other == pytest.approx((1 - high, 1 - low), abs=1e-12)


@pytest.mark.parametrize(("number", "num_rows"), [(-1, 5), (6, 5), (0, 0)])
def test_what_is_no_share_is_refused(number, num_rows):
    with pytest.raises(ValueError, match="no share"):
        share_interval(number, num_rows, 0.95)


@pytest.mark.parametrize(
    ("accepted", "passed"),
    [
        (10, {"estimate": True, "refuse": True, "promote": True}),  # up to 9.0 %
        (18, {"estimate": True, "refuse": False, "promote": True}),  # 9 %, up to 13.8
        (24, {"estimate": False, "refuse": False, "promote": True}),  # 12 %, from 8.2
        (40, {"estimate": False, "refuse": False, "promote": False}),  # 20 %, from 15.0
    ],
)
def test_the_interval_decides_and_else_what_the_gate_is_told(accepted, passed):
    found = {
        when: judge_scope(
            OutOfScopeRows(accepted, 200),
            GateSpec(max_accepted_out_of_scope=0.1, when_unsure=when),
        ).passed
        for when in passed
    }
    assert found == passed


def test_a_limit_of_one_holds_to_nothing_and_still_tells():
    found = judge_scope(OutOfScopeRows(200, 200), GateSpec())
    assert found.passed
    assert found.told.startswith("200 of 200 texts that belong to no task are answered as if they")
    assert "allowed" not in found.told
