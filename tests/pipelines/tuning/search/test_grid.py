import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.search.grid import Grid, cut_warnings

RATE_AND_STRENGTH = {
    "rate": {"log": [1e-5, 1e-3], "points": 5},
    "strength": {"log": [1, 1e5], "points": 6},
}


def tune_of(parameters, **options):
    raw = {"parameters": parameters, "algorithm": "grid", **options}
    return TuneSpec.model_validate(raw)


def grid_of(parameters, fast=()):
    return Grid(tune_of(parameters).parameters, fast)


def points(found):
    return [tuple(settings.values()) for settings in found]


def test_a_grid_has_every_combination_and_varies_the_fast_fields_fastest():
    grid = grid_of({"a": {"int": [1, 2]}, "b": {"choice": ["x", "y"]}, "c": {"int": [0, 1]}}, ["a"])
    found = list(grid.tried(8))
    assert points(found) == [(a, b, c) for b, c, a in itertools.product(["x", "y"], [0, 1], [1, 2])]
    assert list(found[0]) == ["a", "b", "c"]


def test_a_grid_needs_points_and_says_where():
    with pytest.raises(SpecError, match=r"tune\.parameters\.a: a grid needs `points`"):
        grid_of({"a": {"log": [1, 2]}, "b": {"int": [1, 2]}})


@pytest.mark.parametrize("seed", range(5))
def test_fewer_trials_than_points_leave_out_no_value(seed):
    grid = grid_of(RATE_AND_STRENGTH, ["rate"])
    found = points(grid.tried(24, seed))
    for axis, length in ((0, 5), (1, 6)):
        counts = [
            sum(own[axis] == value for own in found)
            for value in sorted({own[axis] for own in points(grid.tried(30))})
        ]
        assert len(counts) == length
        assert min(counts) >= 24 // length - 2
    whole = points(grid.tried(30))
    assert found == [own for own in whole if own in found]  # the strengths vary slowest still


@settings(deadline=None)
@given(
    lengths=st.lists(st.integers(2, 5), min_size=1, max_size=4),
    share=st.floats(0, 1),
    seed=st.integers(0, 1000),
)
def test_more_trials_add_points_to_those_of_fewer(lengths, share, seed):
    grid = grid_of({f"field{n}": {"int": [1, own]} for n, own in enumerate(lengths)})
    number = max(1, int(share * grid.size))
    fewer, more = points(grid.tried(number, seed)), points(grid.tried(number + 1, seed))
    assert len(set(fewer)) == len(fewer) == number
    assert set(fewer) <= set(more)


def test_another_seed_leaves_out_others():
    grid = grid_of(RATE_AND_STRENGTH)
    assert len({frozenset(points(grid.tried(12, seed))) for seed in range(5)}) > 1


def test_a_grid_is_never_made_whole():
    grid = grid_of({"a": {"int": [1, 10**9]}, "b": {"int": [1, 10**9]}})
    assert grid.size == 10**18
    assert len(list(grid.tried(24))) == 24
    assert next(grid.tried(10**18)) == {"a": 1, "b": 1}


@pytest.mark.parametrize("options", [{}, {"num_trials": 30}, {"num_trials": 50}])
def test_a_grid_that_is_tried_whole_warns_of_nothing(options):
    assert cut_warnings(tune_of(RATE_AND_STRENGTH, **options)) == []


def test_a_grid_that_is_not_tried_whole_warns():
    (said,) = cut_warnings(tune_of(RATE_AND_STRENGTH, num_trials=24))
    assert said.startswith("the grid has 30 points, 24 will be tried")
    continuous = {"rate": {"log": [1e-5, 1e-3]}}
    assert cut_warnings(tune_of(continuous, algorithm="gp", num_trials=24)) == []
