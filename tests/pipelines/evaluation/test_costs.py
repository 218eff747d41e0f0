import pytest

from ratchet.pipelines.evaluation.costs import split_costs, task_costs
from ratchet.pipelines.report.data import ColumnSizes


def sizes(total, stored, **others):
    own = {"peak_memory_bytes": 7.0, "state_bytes": 5.0, "trainable_parameters": 3.0}
    return own | {"total_parameters": total, "stored_bytes": stored} | others


BEFORE = {"total_parameters": 100.0, "stored_bytes": 0.0}


def test_seconds_are_told_from_sizes():
    assert split_costs({"train_seconds": 2.0, "state_bytes": 3.0}) == (
        {"train": 2.0},
        {"state_bytes": 3.0},
    )


def test_growth_is_the_difference_to_the_stage_before():
    measured = {
        "a": sizes(110.0, 400.0, train_seconds=1.23456),
        "b": sizes(125.0, 460.0, train_seconds=2.0, evaluate_seconds=0.5),
    }
    found = task_costs(measured, BEFORE, [["a"], ["b"]], {})
    assert found["a"].to_json() == {
        "seconds": {"train": 1.235},
        "peak_memory_bytes": 7,
        "state_bytes": 5,
        "trainable_parameters": 3,
        "parameters_added": 10,
        "bytes_added": 400,
    }
    assert (found["b"].parameters_added, found["b"].bytes_added) == (15, 60)
    assert found["b"].seconds == {"train": 2.0, "evaluate": 0.5}


def test_tasks_taught_together_share_the_growth():
    measured = {"a": sizes(110.0, 400.0), "b": sizes(110.0, 400.0)}
    found = task_costs(measured, BEFORE, [["a", "b"]], {})
    assert [own.bytes_added for own in found.values()] == [200, 200]
    assert [own.parameters_added for own in found.values()] == [5, 5]


def test_what_shrinks_counts_as_negative():
    measured = {"a": sizes(100.0, 90.0), "b": sizes(100.0, 60.0)}
    found = task_costs(measured, BEFORE, [["a"], ["b"]], {})
    assert found["b"].bytes_added == pytest.approx(-30)


def test_a_column_stands_with_its_task():
    column = ColumnSizes(30, 20, 6, {"a": 4})
    measured = {"a": sizes(110.0, 400.0), "b": sizes(140.0, 460.0)}
    found = task_costs(measured, BEFORE, [["a"], ["b"]], {"b": column})
    assert "column" not in found["a"].to_json()
    assert found["b"].to_json()["column"] == {
        "total": 30,
        "own": 20,
        "from_base": 6,
        "from_tasks": {"a": 4},
    }
