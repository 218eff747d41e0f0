import json

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.evaluation.anchors import Anchor, next_anchors
from ratchet.pipelines.spec.update_spec import GateSpec
from tests.pipelines.evaluation.outcomes import anchor, outcomes, right, turned

RULE = GateSpec()


def after(before, now, rule=RULE):
    return next_anchors({"a": anchor("a", before)}, {"a": now}, 5, {}, rule)["a"]


def test_a_new_task_is_anchored_where_it_was_just_learned():
    learned, final = right(180), turned(right(180), 3)
    anchors = next_anchors(
        {}, {"a": final, "b": right(90)}, 4, {"a": learned, "b": right(90)}, RULE
    )
    assert anchors == {"a": Anchor("a", 4, learned), "b": Anchor("b", 4, right(90))}


@pytest.mark.parametrize(
    ("lost", "gained", "raised"),
    [(0, 4, False), (0, 5, True), (4, 9, False), (3, 12, True), (5, 0, False), (60, 0, False)],
)
def test_only_a_gain_that_the_test_shows_raises_an_anchor_and_nothing_lowers_it(
    lost, gained, raised
):
    before = right(100)
    now = turned(before, lost, gained)
    # One-sided mid-p by hand: none lost and 4 gained is 1/32, with 5 gained 1/64.
    found = after(before, now, GateSpec(confidence=0.98))
    assert found == (Anchor("a", 5, now) if raised else Anchor("a", 1, before))


def test_each_measure_is_raised_by_itself():
    before = outcomes("0" * 20, "0" * 20)
    served = outcomes("0" * 20, "1" * 20, "0" * 20, "0" * 20)
    found = after(before, served)
    assert found == Anchor("a", 1, served, served_version=5)
    assert (found.version_of("own"), found.version_of("served")) == (1, 5)
    own = outcomes("1" * 20, "0" * 20)
    found = after(before, own)
    assert found == Anchor("a", 5, own, served_version=1)
    both = outcomes("1" * 20, "1" * 20)
    assert after(before, both) == Anchor("a", 5, both)


def test_a_task_that_is_served_for_the_first_time_is_anchored_by_what_it_answers():
    now = right(90, 100, served=80)
    assert after(right(90, 100), now) == Anchor("a", 1, now, served_version=5)


def test_other_rows_and_unanswered_tasks_leave_an_anchor_as_it_is():
    before = right(100)
    assert after(before, right(200, rows="others")) == Anchor("a", 1, before)
    assert next_anchors({"a": anchor("a", before)}, {}, 5, {}, RULE)["a"].outcomes == before
    empty = right(0, 0)
    assert after(empty, empty) == Anchor("a", 1, empty)


def test_what_a_version_keeps_is_read_again():
    given = Anchor("a", 3, right(7, 9, served=5), served_version=4)
    assert Anchor.from_dict(json.loads(json.dumps(given.as_dict())), "a version") == given
    with pytest.raises(VersionError, match="a version is broken: version"):
        Anchor.from_dict(given.as_dict() | {"version": "three"}, "a version")
