"""Covers `gate`, `verdict`."""

import json
import subprocess
import sys
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.evaluation.anchors import next_anchors
from ratchet.pipelines.evaluation.gate import decide
from ratchet.pipelines.evaluation.row_outcomes import ServedLoss
from ratchet.pipelines.spec.update_spec import GateSpec
from tests.pipelines.evaluation.outcomes import anchor, outcomes, right, turned

RULE = GateSpec()


def verdict_of(lost, gained=0, of=200, known=180, rule=RULE):
    before = right(known, of)
    return decide({"a": turned(before, lost, gained)}, None, {"a": anchor("a", before)}, rule)


def the_own(verdict):
    return verdict.comparisons[0].own


@pytest.mark.parametrize(
    ("lost", "gained", "outcome", "promoted"),
    [
        (0, 0, "held", True),  # up to 1.9 points
        (1, 0, "unsure", True),
        (4, 0, "unsure", True),  # exactly the limit
        (5, 0, "unsure", False),
        (10, 5, "unsure", False),
        (12, 8, "unsure", True),
        (9, 0, "lost", False),
        (20, 0, "lost", False),
        (0, 12, "held", True),
    ],
)
def test_the_interval_says_what_the_rows_show_and_else_the_estimate_decides(
    lost, gained, outcome, promoted
):
    verdict = verdict_of(lost, gained)
    own = the_own(verdict)
    assert (own.outcome, verdict.promoted, own.passed) == (outcome, promoted, promoted)
    assert (own.lost, own.gained, own.num_rows) == (lost, gained, 200)
    assert (own.before, own.after) == (180, 180 - lost + gained)
    assert own.loss == (lost - gained) / 200
    low, high = own.interval
    assert (high <= 0.02) == (outcome == "held")
    assert (low > 0.02) == (outcome == "lost")


@pytest.mark.parametrize(
    ("when_unsure", "promoted"),
    [
        ("estimate", [True, True, False, False]),
        ("refuse", [True, False, False, False]),
        ("promote", [True, True, True, False]),
    ],
)
def test_when_unsure_decides_about_what_the_rows_do_not_show(when_unsure, promoted):
    rule = GateSpec(when_unsure=when_unsure)
    assert [verdict_of(lost, rule=rule).promoted for lost in (0, 4, 5, 20)] == promoted


def test_a_chain_that_loses_the_limit_each_time_is_refused_at_its_second_step():
    taught = right(190)
    anchors = next_anchors({}, {"a": taught}, 1, {"a": taught}, RULE)
    champion, promotions = taught, []
    for version in range(2, 12):
        challenger = turned(champion, 4)
        verdict = decide({"a": challenger}, {"a": champion}, anchors, RULE)
        promotions.append(verdict.promoted)
        if verdict.promoted:
            champion = challenger
            anchors = next_anchors(anchors, {"a": challenger}, version, {}, RULE)
    assert promotions == [True] + [False] * 9
    assert int(champion.right("own").sum()) == 186


def test_the_champion_is_reported_beside_and_decides_nothing():
    taught = right(150)
    champion = turned(taught, 0, 40)
    verdict = decide({"a": taught}, {"a": champion}, {"a": anchor("a", taught)}, RULE)
    (compared,) = verdict.comparisons
    assert verdict.promoted
    assert (compared.against, compared.own.version) == ("anchor", 1)
    assert (compared.champion_own.lost, compared.champion_own.before) == (40, 190)
    assert (compared.champion_own.limit, compared.champion_own.outcome) == (None, None)
    assert compared.champion_served is None


def test_what_auto_answers_has_its_own_limit_and_is_told_in_its_parts():
    before = outcomes("1" * 200, "1" * 190 + "0" * 10)
    lost = 40
    served = "0" * lost + "1" * 150 + "0" * 10
    other = "1" * 30 + "0" * 170
    rejected = "0" * 30 + "1" * 6 + "0" * 164
    after = outcomes("1" * 200, served, other, rejected)
    verdict = decide({"a": after}, None, {"a": anchor("a", before)}, RULE)
    (compared,) = verdict.comparisons
    assert not verdict.promoted
    assert (compared.own.outcome, compared.served.outcome) == ("held", "lost")
    assert compared.served_loss == ServedLoss(other_task=30, rejected=6, within_task=4)
    assert verdict.headline.startswith("Served worse: a, as `auto` answers it, fell by 40 of 200")
    assert "30 answered with another task's label, 6 rejected, 4 wrong within" in verdict.reasons[0]


@pytest.mark.parametrize(
    ("own", "served", "promoted"),
    [(0.02, 0.05, False), (1.0, 0.05, False), (0.02, 1.0, False), (1.0, 1.0, True)],
)
def test_a_limit_of_one_holds_to_nothing(own, served, promoted):
    rule = GateSpec(max_forgetting=own, max_served_loss=served)
    before = right(200, served=200)
    verdict = decide({"a": turned(before, 60)}, None, {"a": anchor("a", before)}, rule)
    (compared,) = verdict.comparisons
    assert verdict.promoted is promoted
    assert (compared.own.outcome is None, compared.served.outcome is None) == (
        own == 1,
        served == 1,
    )
    assert [c.measure for c in compared.judged] == [
        name for name, limit in (("own", own), ("served", served)) if limit < 1
    ]


def test_a_single_loss_among_many_tasks_takes_more_to_be_called_lost():
    before, fallen = right(180), turned(right(180), 10)
    one = decide({"a": fallen}, None, {"a": anchor("a", before)}, RULE)
    assert the_own(one).outcome == "lost"
    names = "abcdefghij"
    challenger = {name: fallen if name == "a" else before for name in names}
    ten = decide(challenger, None, {name: anchor(name, before) for name in names}, RULE)
    own = the_own(ten)
    assert own.p_above_limit == pytest.approx(10 * the_own(one).p_above_limit)
    assert (own.outcome, own.passed) == ("unsure", False)
    assert own.interval == the_own(one).interval
    assert "as one of so many may by chance" in ten.reasons[0]


def test_tasks_of_one_update_are_held_to_what_they_reached_when_learned():
    final, learned = {"a": right(120), "b": right(180)}, {"a": right(180)}
    assert decide(final, None, {}, RULE).promoted
    verdict = decide(final, None, {}, RULE, learned)
    assert not verdict.promoted
    assert [c.against for c in verdict.comparisons] == ["learned", None]
    assert the_own(verdict).version is None
    assert verdict.headline.startswith("Forgot: a fell by 60 of 200 rows")


def test_an_anchor_counts_before_what_was_just_learned():
    verdict = decide(
        {"a": right(180)}, None, {"a": anchor("a", right(180))}, RULE, {"a": right(200)}
    )
    assert verdict.promoted
    assert verdict.comparisons[0].against == "anchor"


def test_every_task_needs_the_minimum_even_a_new_one():
    rule = GateSpec(min_accuracy=0.5)
    before = right(180)
    verdict = decide({"old": before, "new": right(80)}, None, {"old": anchor("old", before)}, rule)
    assert verdict.reasons == ("new reaches 40.0% over its own labels, below the required 50.0%.",)
    assert [c.passed for c in verdict.comparisons] == [True, False]
    assert decide({"new": right(100)}, None, {}, rule).promoted


@pytest.mark.parametrize("known_by", ["anchors", "champion", "learned"])
def test_a_task_that_the_challenger_lacks_is_refused(known_by):
    known = {"champion": None, "anchors": {}, "learned": None}
    known[known_by] = {"a": anchor("a", right(9, 10)) if known_by == "anchors" else right(9, 10)}
    verdict = decide({"b": right(9, 10)}, rule=RULE, **known)
    sentence = "a is missing: it was there before, and the challenger does not have it."
    assert (verdict.reasons, verdict.headline) == ((sentence,), sentence)
    assert verdict.comparisons[-1].now is None


def test_rows_that_changed_since_the_anchor_show_nothing():
    before = right(180, rows="other rows")
    verdict = decide({"a": right(200)}, None, {"a": anchor("a", before, 3)}, RULE)
    assert verdict.reasons == (
        "the validation rows of a changed since its anchor, version 3, answered them, so nothing "
        "shows that it held.",
    )
    assert verdict.comparisons[0].own is None
    verdict = decide({"a": right(200)}, None, {}, RULE, {"a": before})
    assert verdict.reasons[0].startswith("the validation rows of a changed since it was learned")


def test_a_task_of_the_champion_without_an_anchor_is_refused():
    verdict = decide({"a": right(180)}, {"a": right(180)}, {}, RULE)
    assert verdict.reasons[0].startswith("a has no anchor")


def test_what_auto_answered_before_must_be_measured_so_again():
    before = right(180, served=180)
    verdict = decide({"a": right(180)}, None, {"a": anchor("a", before)}, RULE)
    assert verdict.reasons[0].startswith("a was answered by `auto` before")
    unheld = GateSpec(max_served_loss=1.0)
    assert decide({"a": right(180)}, None, {"a": anchor("a", before)}, unheld).promoted
    assert decide({"a": before}, None, {"a": anchor("a", right(180))}, RULE).promoted


@pytest.mark.parametrize("anchors", [{}, {"a": anchor("a", right(0, 0))}])
def test_what_was_not_measured_is_refused(anchors):
    verdict = decide({"a": right(0, 0)}, None, anchors, RULE)
    assert verdict.reasons == ("a was not measured on any row, so nothing shows that it works.",)


def test_an_empty_challenger_is_refused():
    verdict = decide({}, None, {}, RULE)
    assert not verdict.promoted
    assert verdict.headline.startswith("The challenger was measured on no task")


def test_a_first_version_has_nothing_to_hold():
    verdict = decide({"a": right(150)}, None, {}, RULE)
    assert verdict.promoted
    assert verdict.headline == "The first version of the lineage: there is nothing yet to hold."
    now = verdict.comparisons[0].now
    assert (now.own, now.served, now.num_rows) == (150, None, 200)


def test_the_verdict_is_json():
    before = right(180, served=170)
    verdict = decide(
        {"a": turned(before, 5, 2), "b": before}, {"a": before}, {"a": anchor("a", before)}, RULE
    )
    read = json.loads(json.dumps(verdict.as_dict()))
    assert read == verdict.as_dict()
    assert (read["promoted"], read["confidence"]) == (True, 0.95)
    assert read["comparisons"][0]["own"] | {"told": "", "interval": []} == {
        "measure": "own",
        "version": 1,
        "before": 180,
        "after": 177,
        "lost": 5,
        "gained": 2,
        "num_rows": 200,
        "loss": 0.015,
        "interval": [],
        "p": pytest.approx(0.289, abs=5e-4),
        "limit": 0.02,
        "p_above_limit": pytest.approx(0.75, abs=0.3),
        "outcome": "unsure",
        "passed": True,
        "told": "",
        "spread": None,
    }


changes = st.dictionaries(
    st.sampled_from("abcdef"), st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1
)
rules = st.builds(
    GateSpec,
    max_forgetting=st.sampled_from([0.0, 0.02, 0.1]),
    max_served_loss=st.sampled_from([0.0, 0.05, 1.0]),
    when_unsure=st.sampled_from(["estimate", "refuse", "promote"]),
    confidence=st.sampled_from([0.8, 0.95]),
)


def judged(turns, rule):
    before = right(150, served=150)
    return decide(
        {task: turned(before, *turn) for task, turn in turns.items()},
        None,
        {task: anchor(task, before) for task in turns},
        rule,
    )


@given(changes, rules)
def test_the_verdict_is_the_rule_over_every_comparison(turns, rule):
    verdict = judged(turns, rule)
    compared = [c for task in verdict.comparisons for c in task.judged]
    assert verdict.promoted == all(c.passed for c in compared)
    assert verdict.reasons
    assert all(verdict.reasons)
    assert verdict.headline.endswith(".")
    for own in compared:
        low, high = own.interval
        assert (own.outcome == "held") == (high <= own.limit)
        assert own.outcome != "lost" or low > own.limit
        by_estimate = round(own.loss * 200) <= round(own.limit * 200)
        unsure = {"estimate": by_estimate, "refuse": False, "promote": True}[rule.when_unsure]
        assert own.passed == {"held": True, "lost": False, "unsure": unsure}[own.outcome]


@given(changes, rules)
def test_what_is_promoted_under_refuse_is_under_estimate_and_under_promote(turns, rule):
    promoted = [
        judged(turns, rule.model_copy(update={"when_unsure": choice})).promoted
        for choice in ("refuse", "estimate", "promote")
    ]
    assert promoted == sorted(promoted)


@given(changes, rules, st.sampled_from("abcdef"))
def test_losing_more_rows_never_helps(turns, rule, task):
    lost, gained = turns.get(task, (0, 0))
    worse = turns | {task: (lost + 10, gained)}
    assert judged(turns | {task: (lost, gained)}, rule).promoted >= judged(worse, rule).promoted


def test_metrics_and_gate_load_neither_torch_nor_ray():
    code = (
        "import sys, ratchet.pipelines.evaluation.gate, ratchet.pipelines.evaluation.metrics;"
        "print([m for m in ('torch', 'ray', 'mlflow', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_outcomes_of_every_combination_have_a_headline():
    before = right(180, served=180)
    for own, served in product((0, 4, 6, 30), repeat=2):
        after = outcomes(
            "0" * own + "1" * (180 - own) + "0" * 20, "0" * served + "1" * (180 - served) + "0" * 20
        )
        verdict = decide({"a": after}, None, {"a": anchor("a", before)}, RULE)
        assert ("Forgot" in verdict.headline) == (own == 30)
        assert ("Served worse" in verdict.headline) == (served == 30 and own < 30)
