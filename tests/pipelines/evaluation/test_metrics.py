import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ratchet.pipelines.evaluation.metrics import (
    accuracy_matrix,
    forgetting_events,
    intransigence,
    summarize,
)

FIRST = [[0.70, 0.10, 0.05], [0.80, 0.80, 0.10], [0.90, 0.60, 0.85]]
SECOND = [[0.90, 0.10, 0.05], [0.70, 0.80, 0.10], [0.95, 0.60, 0.85]]

squares = st.integers(2, 6).flatmap(
    lambda n: hnp.arrays(np.float64, (n, n), elements=st.floats(0, 1))
)


@pytest.mark.parametrize(
    ("matrix", "expected"),
    [
        (
            FIRST,
            {
                "average_accuracy": 2.35 / 3,
                "average_incremental_accuracy": (0.70 + 0.80 + 2.35 / 3) / 3,
                "learning_accuracy": (0.70 + 0.80 + 0.85) / 3,
                "backward_transfer": 0.0,
                "forgetting": 0.05,
                "forgetting_clamped": 0.10,
                "forgetting_from_learned": 0.0,
            },
        ),
        (
            SECOND,
            {
                "average_accuracy": 0.80,
                "average_incremental_accuracy": (0.90 + 0.75 + 0.80) / 3,
                "learning_accuracy": 0.85,
                "backward_transfer": -0.075,
                "forgetting": 0.075,
                "forgetting_clamped": 0.10,
                "forgetting_from_learned": 0.075,
            },
        ),
    ],
)
def test_published_vectors(matrix, expected):
    metrics = summarize(matrix)
    assert metrics.pop("forward_transfer") is None
    assert metrics == pytest.approx(expected, abs=1e-12)


def test_forward_transfer_compares_with_the_untrained_start():
    # (.10 - .04 + .10 - .08) / 2
    assert summarize(FIRST, baseline=[0.5, 0.04, 0.08])["forward_transfer"] == pytest.approx(0.04)


def test_forward_transfer_does_not_need_the_start_of_the_first_task():
    metrics = summarize(FIRST, baseline=[None, 0.04, 0.08])
    assert metrics["forward_transfer"] == pytest.approx(0.04)


def test_unmeasured_future_tasks_leave_only_forward_transfer_out():
    seen_only = [[0.70, None, None], [0.80, 0.80, None], [0.90, 0.60, 0.85]]
    metrics = summarize(seen_only, baseline=[0.0, 0.0, 0.0])
    assert metrics.pop("forward_transfer") is None
    full = summarize(FIRST)
    assert metrics == pytest.approx({name: full[name] for name in metrics})


@pytest.mark.parametrize(
    ("row", "column", "unknown"),
    [
        (2, 0, {"average_accuracy", "average_incremental_accuracy", "backward_transfer"}),
        (1, 1, {"learning_accuracy", "average_incremental_accuracy", "forgetting"}),
        (1, 0, {"average_incremental_accuracy", "forgetting", "forgetting_clamped"}),
    ],
)
def test_a_metric_that_needs_a_missing_entry_is_none(row, column, unknown):
    matrix = [list(line) for line in FIRST]
    matrix[row][column] = math.nan
    metrics = summarize(matrix)
    assert {name for name in unknown if metrics[name] is None} == unknown
    # The entry (1, 0) lies between learning and the end: only what looks at every row may need it.
    if (row, column) == (1, 0):
        assert metrics["backward_transfer"] == pytest.approx(0.0)


def test_one_task_has_nothing_to_forget_or_transfer():
    metrics = summarize([[0.9]], baseline=[0.1])
    given = {name for name, value in metrics.items() if value is not None}
    assert given == {"average_accuracy", "average_incremental_accuracy", "learning_accuracy"}
    assert metrics["average_accuracy"] == 0.9


def test_joint_training_has_one_row_that_taught_every_task():
    metrics = summarize([[0.9, 0.8, 0.7]])
    assert metrics["average_accuracy"] == pytest.approx(0.8)
    assert metrics["learning_accuracy"] == pytest.approx(0.8)
    assert metrics["forgetting"] is None
    assert metrics["backward_transfer"] is None


def test_a_task_added_to_a_joint_start_is_measured_from_its_own_stage():
    matrix = [[0.9, 0.8, None], [0.7, 0.9, 0.6]]
    metrics = summarize(matrix, stages=[0, 0, 1])
    assert metrics["learning_accuracy"] == pytest.approx((0.9 + 0.8 + 0.6) / 3)
    assert metrics["backward_transfer"] == pytest.approx((-0.2 + 0.1) / 2)
    assert metrics["forgetting"] == pytest.approx((0.2 - 0.1) / 2)
    assert metrics["forgetting_clamped"] == pytest.approx(0.1)
    assert metrics["average_incremental_accuracy"] == pytest.approx((0.85 + 2.2 / 3) / 2)


@pytest.mark.parametrize(
    ("matrix", "options", "field"),
    [
        ([], {}, "matrix"),
        ([0.5, 0.5], {}, "matrix"),
        ([[0.9, 0.8, 0.1], [0.9, 0.8, 0.1]], {}, "stages"),
        ([[0.9, 0.8]], {"stages": [0, 1]}, "stages"),
        ([[0.9, 0.8]], {"stages": [0]}, "stages"),
        ([[0.9, 0.8]], {"stages": [0, -1]}, "stages"),
        ([[0.9, 0.8]], {"baseline": [0.1]}, "baseline"),
    ],
)
def test_shapes_that_do_not_fit_name_the_argument(matrix, options, field):
    with pytest.raises(ValueError, match=f"^{field}:"):
        summarize(matrix, **options)


@given(squares)
def test_relations_between_the_metrics(values):
    metrics = summarize(values, baseline=np.zeros(len(values)))
    close = {"abs": 1e-9}
    assert metrics["forgetting_from_learned"] == pytest.approx(
        -metrics["backward_transfer"], **close
    )
    assert metrics["forgetting_clamped"] >= -1e-12
    assert metrics["forgetting_clamped"] >= metrics["forgetting"] - 1e-12
    assert metrics["forgetting"] >= metrics["forgetting_from_learned"] - 1e-12
    assert all(0 <= metrics[name] <= 1 for name in metrics if name.endswith("accuracy"))
    assert -1 <= metrics["forgetting"] <= 1


@given(squares, st.floats(-0.5, 0.5))
def test_shifting_every_accuracy_shifts_levels_and_keeps_differences(values, shift):
    before, after = summarize(values), summarize(values + shift)
    for name, value in before.items():
        if name == "forward_transfer":
            continue
        moved = shift if name.endswith("accuracy") else 0.0
        assert after[name] == pytest.approx(value + moved, abs=1e-9)


@given(squares)
def test_a_repeated_last_row_changes_no_level(values):
    tasks = values.shape[1]
    longer = summarize(np.vstack([values, values[-1:]]), stages=range(tasks))
    assert longer["average_accuracy"] == pytest.approx(summarize(values)["average_accuracy"])
    assert longer["forgetting_clamped"] == pytest.approx(longer["forgetting"], abs=1e-12)


def test_intransigence_is_what_the_sequence_failed_to_learn():
    assert intransigence(accuracy_matrix(SECOND), [0.95, 0.90, 0.85]) == pytest.approx(0.05)
    assert intransigence(accuracy_matrix(SECOND), [0.95, math.nan, 0.85]) is None
    with pytest.raises(ValueError, match=r"^joint:"):
        intransigence(accuracy_matrix(SECOND), [0.95])


def test_forgetting_events_count_falls_from_right_to_wrong():
    history = np.array(
        [
            # learned and kept, forgotten once, twice, never learned
            [0, 1, 1, 0],
            [1, 0, 0, 0],
            [1, 1, 1, 0],
            [1, 1, 0, 0],
        ]
    )
    assert forgetting_events(history).tolist() == [0, 1, 2, 4]


def test_forgetting_events_need_a_look():
    with pytest.raises(ValueError, match=r"^history:"):
        forgetting_events([])


@given(hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_never_learned_examples_lead_the_order(history):
    counts = forgetting_events(history)
    learned = history.any(axis=0)
    assert (counts[~learned] == len(history)).all()
    assert (counts[learned] <= len(history) // 2).all()
