import json
import math
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.evaluation.gate import TaskScore, decide
from ratchet.pipelines.spec.update_spec import GateSpec

RULE = GateSpec(max_forgetting=0.02, min_accuracy=0.5)


def score(own, overall=None, rows=400):
    return TaskScore(own_labels=own, all_labels=overall, num_rows=rows)


def test_a_task_that_fell_too_far_is_refused_with_the_numbers():
    verdict = decide(
        {"banking": score(0.90), "travel": score(0.95)}, {"banking": score(0.93)}, RULE
    )
    assert not verdict.promoted
    assert verdict.reasons == (
        "banking fell from 93.0% to 90.0% over its own labels, 3.0 points on 400 rows; "
        "2.0 points are allowed.",
    )
    assert [(c.task, c.passed, c.against) for c in verdict.comparisons] == [
        ("banking", False, "champion"),
        ("travel", True, None),
    ]


@pytest.mark.parametrize(("now", "promoted"), [(0.90, True), (0.8975, False), (0.95, True)])
def test_the_limit_itself_is_allowed(now, promoted):
    assert decide({"a": score(now)}, {"a": score(0.92)}, RULE).promoted is promoted


@pytest.mark.parametrize(("decide_over", "promoted"), [("own_labels", True), ("all_labels", False)])
def test_the_rule_names_the_measure_that_decides(decide_over, promoted):
    rule = GateSpec(max_forgetting=0.02, decide_over=decide_over)
    verdict = decide({"a": score(0.9, 0.7)}, {"a": score(0.9, 0.8)}, rule)
    assert verdict.promoted is promoted
    assert verdict.comparisons[0].measure == decide_over
    assert verdict.comparisons[0].before.all_labels == 0.8


def test_every_task_needs_the_minimum_even_a_new_one():
    verdict = decide({"old": score(0.9), "new": score(0.4)}, {"old": score(0.9)}, RULE)
    assert verdict.reasons == ("new reaches 40.0% over its own labels, below the required 50.0%.",)


def test_a_first_version_is_judged_by_the_minimum_alone():
    verdict = decide({"a": score(0.5)}, None, RULE)
    assert verdict.promoted
    assert verdict.reasons[0] == "First version of the lineage: there is no earlier score to hold."


def test_tasks_of_one_update_are_held_to_what_they_reached_when_learned():
    final, learned = {"a": score(0.6), "b": score(0.9)}, {"a": score(0.9), "b": score(0.9)}
    assert decide(final, None, RULE).promoted
    verdict = decide(final, None, RULE, learned)
    assert not verdict.promoted
    assert verdict.comparisons[0].against == "learned"
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("a fell from 90.0% to 60.0%")


def test_the_champion_counts_before_the_score_right_after_learning():
    verdict = decide({"a": score(0.9)}, {"a": score(0.9)}, RULE, {"a": score(0.99)})
    assert verdict.promoted


def test_a_task_that_the_challenger_lacks_is_refused():
    verdict = decide({"b": score(0.9)}, {"a": score(0.9)}, RULE)
    assert verdict.reasons == (
        "a is missing: it was there before, and the challenger does not have it.",
    )
    assert verdict.comparisons[-1].after is None


@pytest.mark.parametrize("unknown", [score(math.nan), score(0.9, rows=0)])
@pytest.mark.parametrize("side", ["challenger", "champion"])
def test_what_was_not_measured_is_refused(unknown, side):
    scores = {"challenger": score(0.9), "champion": score(0.9), side: unknown}
    verdict = decide({"a": scores["challenger"]}, {"a": scores["champion"]}, RULE)
    assert not verdict.promoted
    assert len(verdict.reasons) == 1


def test_all_labels_must_have_been_measured_where_they_decide():
    rule = GateSpec(decide_over="all_labels")
    verdict = decide({"a": score(0.9)}, None, rule)
    assert verdict.reasons == (
        "a was not measured over all labels, so nothing shows that it held.",
    )


def test_an_empty_challenger_is_refused():
    assert not decide({}, None, RULE).promoted


def test_what_held_is_said_with_numbers():
    verdict = decide(
        {"a": score(0.91), "b": score(0.80)}, {"a": score(0.92), "b": score(0.70)}, RULE
    )
    assert verdict.reasons == (
        "Each of the 2 tasks with an earlier score held: the largest loss is 1.0 points on a; "
        "2.0 points are allowed.",
        "The lowest task, b, reaches 80.0% over its own labels; 50.0% is required.",
    )


def test_the_verdict_is_json():
    verdict = decide({"a": score(0.9, 0.8)}, {"a": score(0.95)}, RULE)
    read = json.loads(json.dumps(verdict.as_dict()))
    assert read["promoted"] is False
    assert read["comparisons"][0]["after"] == {
        "own_labels": 0.9,
        "all_labels": 0.8,
        "num_rows": 400,
    }


accuracies = st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 200), min_size=1)


@given(accuracies, accuracies, st.integers(0, 40), st.integers(0, 200))
def test_the_verdict_is_the_rule_over_every_task(new, old, allowed, floor):
    rule = GateSpec(max_forgetting=allowed / 200, min_accuracy=floor / 200)
    as_scores = [
        {task: score(right / 200, rows=200) for task, right in side.items()} for side in (new, old)
    ]
    verdict = decide(*as_scores, rule)
    kept = all(task in new and new[task] >= old[task] - allowed for task in old)
    assert verdict.promoted == (kept and all(right >= floor for right in new.values()))
    assert verdict.reasons


def test_metrics_and_gate_load_neither_torch_nor_ray():
    code = (
        "import sys, ratchet.pipelines.evaluation.gate, ratchet.pipelines.evaluation.metrics;"
        "print([m for m in ('torch', 'ray', 'mlflow') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
