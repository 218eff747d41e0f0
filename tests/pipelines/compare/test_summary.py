"""Covers, beside `summary`: `record`, `pages.estimate`."""

import math
from dataclasses import replace

import pytest

from ratchet.pipelines.compare.record import add_intransigence, totals
from ratchet.pipelines.compare.summary import rows_of
from ratchet.pipelines.compare.table import markdown, sorted_rows
from ratchet.pipelines.evaluation.costs import TaskCosts
from ratchet.pipelines.pages.estimate import Estimate, t_point
from tests.pipelines.compare.records import failed, record
from tests.pipelines.update.test_result import PLAIN


def test_the_interval_is_students_t():
    found = Estimate.of([0.7, 0.8, 0.9])
    assert found.mean == pytest.approx(0.8)
    assert found.half_width == pytest.approx(4.303 * 0.1 / math.sqrt(3))


def test_one_seed_has_no_interval():
    assert Estimate.of([0.5]) == Estimate(0.5, None, (0.5,))
    assert Estimate.of([]) is None


def test_many_seeds_come_to_the_normal_distribution():
    points = [t_point(freedom) for freedom in range(1, 40)]
    assert points == sorted(points, reverse=True)
    assert points[-1] == 1.96


def test_runs_that_differ_in_their_seed_are_one_row():
    records = [record("ewc", 0, 0.7), record("ewc", 1, 0.9), record("ewc", 0, 0.1, order=1)]
    first, second = rows_of(records)
    assert first.metrics["average_accuracy"].values == (0.7, 0.9)
    assert (first.order, second.order) == (0, 1)


def test_what_failed_is_a_row_and_leaves_the_other_seeds_their_mean():
    (row,) = rows_of([record("ewc", 0, 0.7), failed("ewc", 1)])
    assert (row.num_done, row.num_runs) == (1, 2)
    assert row.metrics["average_accuracy"].mean == 0.7
    assert row.errors == ("DivergedError: task 'a', step 3: the gradient is | not finite",)


def test_what_a_task_falls_short_of_learning_all_at_once():
    joint = record("joint", accuracy_matrix=[[0.95, 0.85]])
    own = record("ewc")
    other_seed = record("ewc", 1)
    add_intransigence([joint, own, other_seed])
    assert own["metrics"]["intransigence"] == pytest.approx((0.95 - 0.9 + 0.85 - 0.9) / 2)
    assert "intransigence" not in joint["metrics"]
    assert "intransigence" not in other_seed["metrics"]


def test_the_joint_run_is_matched_by_the_name_of_a_task():
    joint = record("joint", accuracy_matrix=[[0.5, 1.0]])
    own = record("ewc", tasks=["b", "a"], order=1)
    add_intransigence([joint, own])
    assert own["metrics"]["intransigence"] == pytest.approx((1.0 - 0.9 + 0.5 - 0.9) / 2)


def test_totals_are_sums_and_peaks():
    costs = {
        name: TaskCosts({}, peak, 1, 7, 2, added)
        for name, peak, added in (("a", 50, 100), ("b", 60, 10), ("c", 55, 20))
    }
    seconds = {"total": 99.0, "train": 3.0, "evaluate": 1.5}
    found = totals(replace(PLAIN, costs=costs, seconds=seconds))
    assert found["seconds"] == 4.5
    assert found["peak_memory_bytes"] == 60
    assert (found["bytes_added"], found["bytes_added_per_later_task"]) == (130, 15)


def test_the_table_has_the_best_first_and_what_failed_last():
    rows = sorted_rows(rows_of([failed("si"), record("ewc", 0, 0.7), record("replay", 0, 0.95)]))
    assert [row.method for row in rows] == ["replay", "ewc", "si"]
    text = markdown(rows, "Title", ["A note."])
    lines = text.splitlines()
    header = next(line for line in lines if line.startswith("| method"))
    assert "intransigence" not in header  # measured for none
    (best,) = [line for line in lines if line.startswith("| replay")]
    assert best.split(" | ")[1] == "95.0"
    assert best.count("|") == header.count("|")
    assert r"- **si** failed: DivergedError: task 'a', step 3: the gradient is \| not" in text


def test_retention_is_a_share_or_a_perplexity_beside_that_of_the_base():
    kept = {"retention": 0.8, "retention_before": 0.9}
    text = markdown(rows_of([record("a", metrics=kept)]), "Title", [])
    assert "| retention | retention of the base |" in text
    assert "| 80.0 | 90.0 |" in text
    kept = {"retention": 1234.4, "retention_before": 12.5}
    text = markdown(rows_of([record("a", kind="causal_lm", metrics=kept)]), "Title", [])
    assert "| general perplexity ↓ | general perplexity of the base |" in text
    assert "| 1 234 | 12.50 |" in text
    assert "| retention |" not in text


def test_axes_are_columns_where_there_are_several():
    rows = rows_of([record("ewc"), record("ewc", order=1)])
    assert "| method | order | average accuracy |" in markdown(rows, "Title", [])
