import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.evaluation.gate import decide
from ratchet.pipelines.evaluation.gate_words import change, points, to_settle
from ratchet.pipelines.evaluation.paired import rows_to_tell
from ratchet.pipelines.spec.update_spec import GateSpec
from tests.pipelines.evaluation.outcomes import anchor, outcomes, right, turned


def verdict_of(lost, gained=0, of=200, known=180, task="travel", **rule):
    before = right(known, of)
    anchors = {task: anchor(task, before)}
    return decide({task: turned(before, lost, gained)}, None, anchors, GateSpec(**rule))


def told(*args, **kwargs):
    return verdict_of(*args, **kwargs).comparisons[0].own.told


@pytest.mark.parametrize(
    ("sentence", "says"),
    [
        (
            told(3, of=36, known=34),
            "travel fell by 3 of 36 rows (8.3 points; 95 % interval -2.1 to 21.8); the estimate is "
            "above the 2.0 points allowed, and chance is not excluded; to tell 2.0 points from "
            "none takes about 2,100 rows.",
        ),
        (
            told(2),
            "travel fell by 2 of 200 rows (1.0 points; 95 % interval -0.9 to 3.6); within the 2.0 "
            "points allowed, and up to 3.6 points cannot be excluded; to tell 2.0 points from none "
            "takes about 390 rows.",
        ),
        (
            told(20),
            "travel fell by 20 of 200 rows (10.0 points; 95 % interval 6.6 to 14.9), forgotten by "
            "more than the 2.0 points allowed.",
        ),
        (
            told(1, 9),
            "travel rose by 8 of 200 rows (4.0 points; 95 % interval 1.1 to 7.9), held within the "
            "2.0 points allowed.",
        ),
        (
            told(0),
            "travel is even on 200 rows (no row changed; 95 % interval of the loss -1.9 to 1.9), "
            "held within the 2.0 points allowed.",
        ),
        (
            told(9, 9, when_unsure="refuse", confidence=0.9),
            "travel is even on 200 rows (9 lost and as many gained; 90 % interval of the loss -3.7 "
            "to 3.7); within the 2.0 points allowed, and up to 3.7 points cannot be excluded; to "
            "tell 2.0 points from none takes about 1,500 rows.",
        ),
        (
            told(1, max_forgetting=0.0),
            "travel fell by 1 of 200 rows (0.5 points; 95 % interval -1.4 to 2.8); the estimate is "
            "above the 0.0 points allowed, and chance is not excluded.",
        ),
        (
            told(1, max_forgetting=1.0),
            "travel fell by 1 of 200 rows (0.5 points; 95 % interval -1.4 to 2.8).",
        ),
    ],
)
def test_a_sentence_says_what_changed_what_that_shows_and_what_would_settle_it(sentence, says):
    assert sentence == says


@pytest.mark.parametrize(
    ("verdict", "headline"),
    [
        (
            verdict_of(0),
            "Held everything it knew: a loss is at most 1.9 points on travel among its own labels "
            "(95 % confidence).",
        ),
        (
            verdict_of(0, of=50, known=40),
            "Nothing shows a loss above the limit, and up to 7.1 points on travel among its own "
            "labels cannot be excluded.",
        ),
        (
            verdict_of(20),
            "Forgot: travel fell by 20 of 200 rows (10.0 points; 95 % interval 6.6 to 14.9).",
        ),
        (
            verdict_of(3, of=36, known=34),
            "Not shown to hold: travel fell by 3 of 36 rows (8.3 points; 95 % interval -2.1 to "
            "21.8); to tell 2.0 points from none takes about 2,100 rows.",
        ),
        (
            verdict_of(3, of=36, known=34, when_unsure="promote"),
            "Promoted unsure, as the gate was told to: travel fell by 3 of 36 rows (8.3 points; "
            "95 % interval -2.1 to 21.8).",
        ),
        (
            verdict_of(90, max_forgetting=1.0),
            "Held to no limit: the gate was told to allow any loss.",
        ),
        (
            verdict_of(0, min_accuracy=0.95),
            "travel reaches 90.0% over its own labels, below the required 95.0%.",
        ),
    ],
)
def test_the_headline_follows_from_the_outcomes(verdict, headline):
    assert verdict.headline == headline


def test_the_headline_names_the_tasks_and_tells_the_worst():
    before = right(180)
    names = ("a", "b", "c", "d", "e")
    verdict = decide(
        {name: turned(before, 30 + place) for place, name in enumerate(names)},
        None,
        {name: anchor(name, before) for name in names},
        GateSpec(),
    )
    assert verdict.headline.startswith("Forgot on a, b, c and 2 more: e fell by 34 of 200 rows")
    assert len(verdict.reasons) == 5


def test_what_was_promoted_says_which_task_comes_closest_by_each_measure():
    before = right(180, served=180)
    verdict = decide(
        {"a": before, "b": turned(before, 3)},
        None,
        {name: anchor(name, before) for name in "ab"},
        GateSpec(min_accuracy=0.5),
    )
    own, served, floor = verdict.reasons
    assert own.startswith("Closest of 2 tasks: b fell by 3 of 200 rows (1.5 points;")
    assert served.startswith("Closest of 2 tasks: b, as `auto` answers it, fell by 3 of 200 rows")
    assert served.endswith("Of 3 newly wrong: 3 wrong within its task.")
    assert floor == "The lowest task, b, reaches 88.5% over its own labels; 50.0% is required."


def test_a_served_loss_is_never_called_forgotten():
    before = outcomes("1" * 200, "1" * 200)
    after = outcomes("1" * 200, "0" * 50 + "1" * 150, "1" * 50 + "0" * 150)
    verdict = decide({"a": after}, None, {"a": anchor("a", before)}, GateSpec())
    assert "served worse by more than the 10.0 points allowed" in verdict.reasons[0]
    assert "orgot" not in verdict.headline + " ".join(verdict.reasons)


@given(st.integers(0, 100), st.integers(0, 80), st.sampled_from([0.0, 0.02, 0.5]))
def test_words_of_forgetting_and_holding_are_used_by_the_outcome_alone(lost, gained, limit):
    verdict = verdict_of(lost, gained, known=110, max_forgetting=limit)
    own = verdict.comparisons[0].own
    assert ("held within" in own.told) == (own.outcome == "held")
    assert ("forgotten" in own.told) == (own.outcome == "lost")
    assert ("cannot be excluded" in own.told or "chance" in own.told) == (own.outcome == "unsure")
    assert verdict.headline.startswith("Held") == (own.outcome == "held")
    assert verdict.headline.startswith("Forgot") == (own.outcome == "lost")
    fell = {1: "fell", 0: "is even", -1: "rose"}[(lost > gained) - (lost < gained)]
    assert change("x", own, 0.95).startswith(f"x {fell}")


@given(st.integers(0, 20), st.integers(1, 20))
def test_rows_that_would_settle_it_are_more_than_there_are(lost, gained):
    own = verdict_of(lost, gained, known=100).comparisons[0].own
    needed = rows_to_tell(0.02, (lost + gained + 1) / 202, 0.95)
    assert (needed > 200) == bool(to_settle(own, 0.95))


def test_points_are_shares_in_hundredths():
    assert points(0.0833) == "8.3 points"
    assert points(-0.0003) == "0.0 points"


def test_everything_is_held_only_where_everything_has_a_limit():
    before = right(1900, 2000, served=1900)
    for limit, what in ((0.05, "Held everything it knew:"), (1.0, "Held what it was held to:")):
        rule = GateSpec(max_served_loss=limit)
        verdict = decide({"a": before}, None, {"a": anchor("a", before)}, rule)
        assert verdict.headline.startswith(what)
