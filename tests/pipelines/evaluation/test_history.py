import pytest

from ratchet.pipelines.evaluation.history import History, main_measure, rounded


def scores(own, every=None, rows=100):
    return {
        "validation_own": own,
        "validation_all": own if every is None else every,
        "test_own": own,
        "test_all": every,
        "num_validation": rows,
    }


TWO = History(
    ("banking", "travel"),
    (0, 1),
    ({"banking": scores(0.9)}, {"banking": scores(0.8), "travel": scores(0.7)}),
    {},
)


def test_a_measure_is_a_row_a_stage_and_a_column_a_task():
    assert TWO.matrix("test_own") == [[0.9, None], [0.8, 0.7]]
    assert TWO.metrics("test_own")["average_accuracy"] == pytest.approx(0.75)
    assert TWO.metrics("test_own")["forgetting"] == pytest.approx(0.1)


def test_a_measure_that_was_never_taken_has_no_matrix_and_no_metrics():
    assert TWO.matrix("test_all") is None
    assert TWO.metrics("test_all") == {}
    assert TWO.language_matrices() == {}


def test_a_history_comes_back_as_it_was_kept():
    assert History.from_dict(TWO.as_dict(), "history.json") == TWO


def test_forward_transfer_needs_the_start_of_every_task():
    start = {"banking": scores(0.25), "travel": scores(0.5)}
    some = History(TWO.tasks, TWO.stages, TWO.rows, {"banking": start["banking"]})
    assert some.metrics("test_own")["forward_transfer"] is None
    seen = ({"banking": scores(0.9), "travel": scores(0.6)}, TWO.rows[1])
    known = History(TWO.tasks, TWO.stages, seen, start)
    assert known.metrics("test_own")["forward_transfer"] == pytest.approx(0.1)


def test_the_main_measure_has_the_task_id_only_where_the_scenario_gives_it():
    assert main_measure("task_incremental") == "test_own"
    assert main_measure("class_incremental") == main_measure("domain_incremental") == "test_all"


def test_a_matrix_is_printed_with_six_decimals():
    assert rounded([[1 / 3, None]]) == [[0.333333, None]]
    assert rounded(None) is None
