"""Covers, beside `progress_lines`: `plan`, `result`."""

import io

import pytest
from rich.console import Console

from ratchet.pipelines.pages.search_record import (
    Decided,
    RateTried,
    SearchRecord,
    StrengthsTried,
)
from ratchet.pipelines.training.events import (
    Planned,
    PlannedStage,
    Resumed,
    Searched,
    SearchTrained,
    Setting,
    StageDone,
    StageStarted,
    StepTaken,
    Warned,
    WorkerStarted,
)
from ratchet.service.terminal.progress_lines import ProgressLines
from ratchet.service.terminal.result import colour_of, show_result

STAGES = (PlannedStage(("travel",), 200, 2, 20), PlannedStage(("[red]", "desk"), 400, 2, 40))
SCORES = {"validation_own": 0.9, "validation_all": 0.5, "test_own": 0.9, "test_all": 0.5}


def planned(parent=None):
    return Planned("run", parent, STAGES)


def step(number, task="travel", num_steps=20, rate=100.0):
    return StepTaken(task, (number - 1) // 10, number, num_steps, 0.25, rate)


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def lines_of(events, clock=None):
    """What a pipe shows of events; an event may be a number of seconds that pass."""
    clock = clock or Clock()
    out = io.StringIO()
    with ProgressLines(Console(file=out, width=200), clock) as lines:
        for event in events:
            if isinstance(event, float):
                clock.now += event
            else:
                lines(event)
    return out.getvalue().splitlines()


def test_a_pipe_gets_a_line_a_task_and_one_every_ten_seconds():
    events = [planned(), StageStarted(0, ("travel",))]
    for number in range(1, 21):
        events += [1.0, step(number)]
    costs = {"train_seconds": 20.0, "end_task_seconds": 3.0, "state_bytes": 7}
    events.append(StageDone(0, ("travel",), {"travel": SCORES}, {"travel": costs}))
    # One second a step: 10 of 60 are done at the first line, 20 at the second.
    assert lines_of(events) == [
        "teaching 3 tasks (600 rows) from the base model",
        "task 1/3 travel · starting",
        "task 1/3 travel · 50.0 s left · epoch 1/2 · step 10/20 · loss 0.250 · 100 examples/s",
        "task 1/3 travel · 40.0 s left · epoch 2/2 · step 20/20 · loss 0.250 · 100 examples/s",
        "task 1/3 travel · learned in 23.0 s · "
        "travel: 50.0% of validation right, 90.0% given the task",
    ]


def test_tasks_taught_together_are_counted_together():
    events = [planned(parent=3), StageStarted(1, STAGES[1].tasks)]
    assert lines_of(events)[1:] == ["tasks 2-3 of 3 together · starting"]
    assert lines_of(events)[0].endswith("from version 3")


def test_steps_of_an_interrupted_run_do_not_shorten_the_time_left():
    events = [
        planned(),
        Resumed(1, epoch=1, step_in_epoch=0),
        StageStarted(1, STAGES[1].tasks),
        *(event for number in range(21, 32) for event in (1.0, step(number, "desk", 40))),
    ]
    lines = lines_of(events)
    assert lines[1] == "going on from the last checkpoint: 1 task done, epoch 2, step 1 of it"
    assert "· 10.0 s left ·" in lines[-1]  # at step 30 of 40, one second each


def test_a_warning_is_shown_as_it_is():
    assert lines_of([Warned("[bold] 3 rows")]) == ["warning: [bold] 3 rows"]


def test_a_terminal_gets_one_live_line_that_ends():
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=100)
    with ProgressLines(console, Clock()) as lines:
        lines(planned())
        lines(StageStarted(0, ("travel",)))
        lines(step(1))
        lines(WorkerStarted())
    assert "step 1/20" in out.getvalue()
    assert out.getvalue().endswith("\x1b[2K") or "\x1b[?25h" in out.getvalue()


def result(num_tasks, promoted=True):
    tasks = [f"task_{place}" for place in range(num_tasks)]
    matrix = [
        [0.9 if task <= stage else None for task in range(num_tasks)] for stage in range(num_tasks)
    ]
    metrics = {"average_accuracy": 0.9, "forgetting": None, "backward_transfer": -0.05}
    return {
        "lineage": "tiny",
        "version": 3,
        "promoted": promoted,
        "tasks": tasks,
        "accuracy_matrix": matrix,
        "metrics": metrics,
        "gate": {
            "headline": "Forgot: travel fell [by much].",
            "reasons": ["travel lost 9 points [of 100]"],
        },
        "seconds": {"total": 61.0},
        "report": "/home/[x]/report.html",
        "with_task_id": {"accuracy_matrix": matrix, "metrics": metrics},
    }


def shown(found, width=100):
    out = io.StringIO()
    show_result(found, Console(file=out, width=width))
    return out.getvalue()


def test_a_result_has_matrix_metrics_verdict_report_and_next_step():
    text = shown(result(2))
    assert "task_0" in text
    assert "90.0" in text
    assert "−5.0" in text
    assert "promoted" in text
    assert "[of 100]" in text
    assert text.index("Forgot: travel fell [by much].") < text.index("travel lost 9 points")
    assert "/home/[x]/report.html" in text
    assert "ratchet serve tiny" in text


def test_a_result_says_what_is_served_and_what_the_weakest_task_loses_to():
    own = {"accuracy": 0.9, "other_task": 0.0625, "rejected": 0.0375, "within_task": 0.0}
    tasks = {"task_0": own, "task_[1]": {**own, "accuracy": 0.5, "within_task": 0.4}}
    served = {"average_accuracy": 0.7, "tasks": tasks, "answering": {"by": "prototypes"}}
    text = shown(result(2) | {"as_served": served}, width=200)
    assert "70.0% of test rows get their label where no task is named" in text
    assert "by the router's class statistics" in text
    least = next(line for line in text.splitlines() if "least on" in line)
    assert "task_[1]: 50.0 (40.0 wrong within the task, 6.2 another task's label" in least
    assert "As served" not in shown(result(2))


def test_a_refused_version_is_offered_for_promotion_by_hand():
    assert "ratchet promote tiny@3" in shown(result(2, promoted=False))


def test_fifteen_tasks_fit_eighty_columns():
    text = shown(result(15), width=80)
    assert max(map(len, text.splitlines())) <= 80
    assert "15 task_14" in text
    last = next(line for line in text.splitlines() if "15 task_14" in line)
    assert last.count("90") == 15


def test_more_tasks_than_fit_are_shown_by_task():
    text = shown(result(40), width=80)
    assert max(map(len, text.splitlines())) <= 80
    last = next(line for line in text.splitlines() if "task_39" in line)
    assert last.split() == ["task_39", "90.0", "90.0", "90.0"]


@pytest.mark.parametrize(("value", "colour"), [(0.2, "red"), (0.6, "yellow"), (0.95, "green")])
def test_colours(value, colour):
    assert colour_of(value) == colour


def test_a_search_says_each_training_and_what_was_decided():
    record = SearchRecord(
        learning_rates=(RateTried(1e-3, 0.9, 20.0),),
        fine_tuned=0.9,
        needed=0.72,
        strengths=(StrengthsTried({"ewc": 5e4}, None, False, 45.0),),
        accepted=False,
        decided=Decided(1e-3, {"ewc": 5e4}),
    )
    events = [
        planned(),
        StageStarted(0, ("travel",)),
        SearchTrained("travel", Setting(1e-3), 0.9, 20.0),
        SearchTrained("travel", Setting(1e-3, {"ewc": 5e4}), None, 20.0),
        Searched("travel", record),
    ]
    assert lines_of(events)[2:] == [
        "task 1/3 travel · tried learning rate 0.001: 90.0% on validation",
        "task 1/3 travel · tried learning rate 0.001, ewc 5e+04: diverged",
        "task 1/3 travel · to be taught with learning rate 0.001, ewc 5e+04 "
        "(2 trainings in 1 min 05 s)",
        "warning: even so it learns less than stability_decay.tolerance allows",
    ]
