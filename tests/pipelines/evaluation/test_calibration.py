import pytest

from ratchet.pipelines.evaluation.calibration import RoutedRows, calibrate
from ratchet.pipelines.types import route_tasks
from tests.conformance.streams import plan_of, teacher_of
from tests.tiny import TASKS


@pytest.fixture(scope="module")
def teacher(tiny_model, tmp_path_factory):
    plan = plan_of(tiny_model, tmp_path_factory.mktemp("taught"), [], tuple(TASKS))
    made = teacher_of(plan)
    made.run()
    return made


def test_the_threshold_is_of_validation_rows_and_the_counts_are_of_test_rows(teacher):
    found = teacher.calibrate()

    router = teacher.router.fit(route_tasks(teacher.job.tasks))
    validation, counts = [], {}
    for task in teacher.job.tasks:
        held = teacher.data.held_out[task.id]
        scores = router.scores(teacher.evaluator.base_features(task.id))
        validation += scores.in_scope[held.validation].tolist()
        rows = range(held.num_validation, len(held.rows))
        accepted = [float(scores.in_scope[row]) >= found.threshold for row in rows]
        nearest = [max(range(len(TASKS)), key=scores.task_scores[row].__getitem__) for row in rows]
        counts[task.name] = RoutedRows(len(rows), sum(accepted), nearest.count(task.id))
    assert found.routed == counts
    assert sum(score >= found.threshold for score in validation) >= 0.95 * len(validation)
    assert found.threshold in validation


def test_calibrating_makes_no_pass_of_the_base_once_its_features_are_known(teacher):
    teacher.calibrate()
    before = teacher.evaluator.num_forwards
    teacher.calibrate()
    assert teacher.evaluator.num_forwards == before


def test_rows_of_another_task_are_counted_as_led_away(teacher):
    tasks, held_out = teacher.job.tasks, teacher.data.held_out
    features = {task.id: teacher.evaluator.base_features(tasks[task.id - 1].id) for task in tasks}
    found = calibrate(teacher.router.fit(route_tasks(tasks)), tasks, features, held_out, 0.5)
    assert {own.num_own_task for own in found.routed.values()} == {0}
    assert 0 < sum(own.num_accepted for own in found.routed.values()) < 3 * 12
