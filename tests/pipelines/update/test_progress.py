import pytest

from ratchet.pipelines.training.events import (
    Planned,
    PlannedStage,
    Resumed,
    StageDone,
    StageStarted,
    StepTaken,
    Taught,
)
from ratchet.pipelines.update.progress import Place, RunProgress

ALONE = PlannedStage(("travel",), num_rows=200, num_epochs=2, num_steps=20)
TOGETHER = PlannedStage(("home", "desk"), num_rows=400, num_epochs=3, num_steps=40)


def step(number, task="travel", num_steps=20, rate=100.0, loss=0.25):
    return StepTaken(task, 0, number, num_steps, loss, rate)


def after(*events, now=0.0):
    """The books after the data was checked and some events; a number is seconds that pass."""
    run = RunProgress()
    run.see(Planned("run", None, (ALONE, TOGETHER)), now)
    for event in events:
        if isinstance(event, float):
            now += event
        else:
            run.see(event, now)
    return run, now


def test_what_was_planned_is_known_before_anything_begins():
    run, now = after()
    assert (run.tasks, run.num_rows) == (["travel", "home", "desk"], 600)
    assert (run.loss, run.seconds_left(now)) == (None, None)


def test_an_unplanned_run_has_no_steps():
    run = RunProgress()
    run.see(StageStarted(0, ("travel",)), 0.0)
    assert run.place(0.0) == Place("travel", None, 0, 0, 0, None)
    assert run.num_epochs is None


def test_a_stage_that_begins_is_at_its_first_task_and_at_no_step():
    run, now = after(StageStarted(1, TOGETHER.tasks))
    assert run.place(now) == Place("home", 2, 3, 0, 40, None)
    assert (run.num_tasks_before, run.num_epochs, run.num_steps_through_stage) == (1, 3, 60)


def test_steps_move_the_place_the_loss_and_the_time_left():
    walked = [own for number in range(1, 11) for own in (1.0, step(number, loss=1 / number))]
    run, now = after(StageStarted(0, ("travel",)), *walked)
    assert run.place(now) == Place("travel", 1, 3, 10, 20, 50.0)  # a second each, 50 to go
    assert run.loss == 0.1


def test_the_rate_is_smoothed_within_a_stage_only():
    run, _ = after(StageStarted(0, ("travel",)), step(1, rate=100.0), step(2, rate=200.0))
    assert run.rows_per_second == pytest.approx(120.0)
    run.see(StageStarted(1, TOGETHER.tasks), 0.0)
    assert run.rows_per_second == 0.0


def test_a_stage_that_is_done_is_at_its_last_task_and_step():
    run, now = after(StageStarted(1, TOGETHER.tasks), StageDone(1, TOGETHER.tasks, {}, {}))
    assert run.place(now) == Place("desk", 3, 3, 40, 40, None)


def test_steps_of_an_interrupted_run_do_not_shorten_the_time_left():
    walked = [own for number in range(21, 32) for own in (1.0, step(number, "desk", 40))]
    run, now = after(Resumed(1, 1, 0), StageStarted(1, TOGETHER.tasks), *walked)
    assert run.seconds_left(now) == 9.0  # at step 31 of 40, a second each


def test_what_is_no_progress_changes_nothing():
    run, now = after(StageStarted(0, ("travel",)), step(3))
    before = run.place(now)
    run.see(Taught(), now)
    assert run.place(now) == before
