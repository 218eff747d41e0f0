import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.tuning.front import (
    dominates,
    front,
    hypervolume,
    knee,
    placed,
    reference_point,
)
from tests.pipelines.tuning.trials import failed, trial

BOTH = ("plasticity", "stability")
ALL = (*BOTH, "cost")
COARSE = st.integers(0, 8).map(lambda value: value / 8)  # few values, so that ties occur


def points(num_objectives, max_size=7):
    return st.lists(st.tuples(*[COARSE] * num_objectives), max_size=max_size)


def trials_at(found):
    """Trials of these objectives that differ in nothing else."""
    padded = [(*point, *(0, 0)[len(point) - 1 :]) for point in found]
    return [
        trial(number, x, -y, average=0.5, seconds=9 - z) for number, (x, y, z) in enumerate(padded)
    ]


@pytest.mark.parametrize(
    ("one", "other", "answer"),
    [
        ((1, 1), (0, 1), True),
        ((1, 1), (1, 1), False),
        ((1, 0), (0, 1), False),
        ((2,), (1,), True),
        ((1, 1, 0), (1, 1, 0.5), False),
    ],
)
def test_a_point_dominates_where_nowhere_worse_and_somewhere_better(one, other, answer):
    assert dominates(one, other) == answer


def test_the_front_leads_from_the_most_plastic_to_the_most_stable():
    found = [trial(0, 0.7, 0.0), trial(1, 0.9, 0.2), trial(2, 0.8, 0.1), trial(3, 0.75, 0.15)]
    assert [own.trial.number for own in front(found, BOTH)] == [1, 2, 0]


def test_equal_trials_are_on_the_front_together():
    found = [trial(0, 0.8, 0.1), trial(1, 0.8, 0.1), trial(2, 0.8, 0.2)]
    assert [own.trial.number for own in front(found, BOTH)] == [0, 1]


def test_stopped_failed_and_unmeasured_trials_are_not_on_the_front():
    found = [
        trial(0, 0.5, 0.3),
        trial(1, 0.9, 0.0, status="stopped"),
        failed(2),
        trial(3, 0.9, None, average=0.9),
        trial(4, math.nan, 0.0),
    ]
    assert [own.trial.number for own in placed(found, BOTH)] == [0]


def test_one_objective_keeps_the_best_alone():
    found = [trial(0, 0.8, 0.5), trial(1, 0.9, 0.9), trial(2, 0.9, 0.0)]
    assert [own.trial.number for own in front(found, ("plasticity",))] == [1, 2]


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
@given(data=st.data())
def test_members_are_apart_and_the_others_below_one(num_objectives, data):
    trials = trials_at(data.draw(points(num_objectives)))
    objectives = ALL[:num_objectives]
    members = front(trials, objectives)
    numbers = {own.trial.number for own in members}
    assert not any(dominates(a.point, b.point) for a in members for b in members)
    for own in placed(trials, objectives):
        if own.trial.number not in numbers:
            assert any(dominates(member.point, own.point) for member in members)


def by_inclusion_and_exclusion(found, reference):
    """The volume of a union of boxes, from all of their intersections."""
    total = 0.0
    for size in range(1, len(found) + 1):
        for some in itertools.combinations(found, size):
            corner = [min(column) for column in zip(*some, strict=True)]
            sides = [max(0.0, c - r) for c, r in zip(corner, reference, strict=True)]
            total -= (-1) ** size * math.prod(sides)
    return total


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
@given(data=st.data())
def test_hypervolume_is_that_of_a_union_of_boxes(num_objectives, data):
    found = data.draw(points(num_objectives))
    reference = data.draw(st.tuples(*[st.sampled_from([-1.0, 0.0, 0.25])] * num_objectives))
    expected = by_inclusion_and_exclusion(found, reference)
    assert hypervolume(found, reference) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("num_objectives", [1, 2, 3])
@given(data=st.data())
def test_hypervolume_never_falls_with_a_point_and_grows_with_a_better_one(num_objectives, data):
    found = data.draw(points(num_objectives))
    point = data.draw(st.tuples(*[COARSE] * num_objectives))
    reference = (0.0,) * num_objectives
    before, after = hypervolume(found, reference), hypervolume([*found, point], reference)
    assert after >= before - 1e-12
    better = all(v > 0 for v in point) and not any(
        own == point or dominates(own, point) for own in found
    )
    assert (after > before + 1e-9) == better


@pytest.mark.parametrize(
    ("found", "reference", "volume"),
    [
        ([], (0, 0), 0.0),
        ([(0.5, 0.5)], (0.5, 0), 0.0),
        ([(0.9, -0.2), (0.7, 0.0)], (0.0, -1.0), 0.9 * 0.8 + 0.7 * 0.2),
        ([(2, 1, 1), (1, 2, 1), (1, 1, 2)], (0, 0, 0), 4.0),
        ([(3,), (2,)], (1,), 2.0),
    ],
)
def test_hypervolume_by_hand(found, reference, volume):
    assert hypervolume(found, reference) == pytest.approx(volume)


def test_hypervolume_of_many_points_is_what_darts_say():
    draw = random.Random(0)
    found = [tuple(draw.random() for _ in range(3)) for _ in range(12)]
    darts = [tuple(draw.random() for _ in range(3)) for _ in range(20_000)]
    hits = sum(
        any(all(p >= d for p, d in zip(point, dart, strict=True)) for point in found)
        for dart in darts
    )
    assert hypervolume(found, (0.0, 0.0, 0.0)) == pytest.approx(hits / len(darts), abs=0.012)


def test_the_reference_is_fixed_where_it_can_be():
    found = [trial(0, 0.8, 0.1, seconds=20), trial(1, 0.2, 0.9, seconds=5), failed(2)]
    assert reference_point(found, ALL) == (0.0, -1.0, -20.0)
    assert reference_point([], ALL) == (0.0, -1.0, 0.0)


def knee_of(*found, objectives=BOTH):
    return knee(front(list(found), objectives))


def test_the_knee_bulges_most():
    ends = trial(0, 0.9, 0.4), trial(1, 0.5, 0.0)
    # Scaled: (0.875, 0.75) and (0.5, 0.875): 0.625 and 0.375 over the line.
    assert knee_of(*ends, trial(2, 0.85, 0.1), trial(3, 0.7, 0.05)).number == 2


def test_a_dent_is_no_knee():
    found = [trial(0, 0.9, 0.4, average=0.5), trial(1, 0.5, 0.0, average=0.6), trial(2, 0.55, 0.35)]
    assert knee_of(*found).number == 1


@pytest.mark.parametrize(
    ("averages", "number"), [((0.7, 0.8), 1), ((0.8, 0.7), 0), ((0.7, 0.7), 0)]
)
def test_of_two_the_knee_is_the_more_accurate(averages, number):
    found = trial(0, 0.9, 0.4, averages[0]), trial(1, 0.5, 0.0, averages[1])
    assert knee_of(*found).number == number


def test_one_trial_is_its_own_knee_and_none_has_none():
    assert knee_of(trial(7, 0.9, 0.4)).number == 7
    assert knee_of(failed(0)) is None


def test_the_knee_of_three_objectives_is_good_in_all_of_them():
    ends = [trial(0, 1.0, 0.9, seconds=90), trial(1, 0.1, 0.0, seconds=90)]
    ends.append(trial(2, 0.1, 0.9, seconds=1))
    assert knee_of(*ends, trial(3, 0.8, 0.2, seconds=20), objectives=ALL).number == 3


@given(found=points(2, max_size=9).filter(bool))
def test_the_knee_is_on_the_front_and_units_do_not_matter(found):
    members = front(trials_at(found), BOTH)
    own = knee(members)
    assert own.number in [member.trial.number for member in members]
    assert knee(front(trials_at([(x / 4, y / 2) for x, y in found]), BOTH)).number == own.number
