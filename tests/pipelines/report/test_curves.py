import re

import pytest

from ratchet.pipelines.report.curves import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, curves


def test_a_curve_runs_from_where_it_was_learned_to_the_end(report):
    matrix = [[0.9, None, None], [0.7, 0.8, None], [0.5, 0.6, 0.9]]
    drawn = curves(report(3, accuracy_matrix=matrix, accuracy_matrix_with_task_id=None))
    assert [tick.label for tick in drawn.rows] == ["50", "75", "100"]
    assert [tick.label for tick in drawn.columns] == ["1", "3"]
    first, second = drawn.charts
    # 180 units wide from 30, 84 high from 94 upwards, over 50 to 100 percent.
    assert first.lines[0].path == "M30,26.8L120,60.4L210,94"
    assert second.lines[0].path == "M120,43.6L210,77.2"
    assert (second.start.x, second.start.y) == (120, 43.6)
    assert (second.learned, second.now) == (0.8, 0.6)


def test_a_missing_entry_breaks_the_line(report):
    matrix = [[0.9, None, None], [None, 0.9, None], [0.8, 0.9, 0.9]]
    drawn = curves(report(3, accuracy_matrix=matrix, accuracy_matrix_with_task_id=None))
    assert len(drawn.charts[0].lines) == 2


@pytest.mark.parametrize("num_tasks", [2, 7, 15])
def test_every_point_lies_inside_the_frame(report, num_tasks):
    drawn = curves(report(num_tasks, loss=0.05))
    assert len(drawn.charts) == num_tasks - 1
    for chart in drawn.charts:
        for line in chart.lines + chart.lines_with_task_id:
            for x, y in re.findall(r"([\d.]+),([\d.]+)", line.path):
                assert LEFT <= float(x) <= WIDTH - RIGHT
                assert TOP <= float(y) <= HEIGHT - BOTTOM


@pytest.mark.parametrize(
    ("lowest", "floor"), [(0.81, "80"), (0.8, "80"), (0.79, "50"), (0.49, "0"), (0.0, "0")]
)
def test_the_axis_begins_at_a_round_number(report, lowest, floor):
    matrix = [[0.9, None], [lowest, 0.9]]
    drawn = curves(report(2, accuracy_matrix=matrix, accuracy_matrix_with_task_id=None))
    assert drawn.rows[0].label == floor


def test_one_stage_has_no_curves(report):
    assert curves(report(1)) is None
