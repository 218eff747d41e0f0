from ratchet.pipelines.training.events import Planned, PlannedStage, StageStarted, StepTaken
from ratchet.service.driver.journal import Journal, Line
from ratchet.service.driver.progress import Progress


def started(tmp_path, clock, num_steps=10_000):
    journal = Journal(tmp_path / "events.jsonl", 1)
    progress = Progress(journal, lambda: clock[0])
    stages = tuple(PlannedStage((name,), 8, 2, num_steps) for name in ("banking", "home"))
    progress(Planned("run", 3, stages))
    progress(StageStarted(0, ("banking",)))
    return progress, journal


def step(number, num_steps=10_000):
    return StepTaken("banking", 0, number, num_steps, loss=0.5, rows_per_second=100.0)


def lines_of(journal, kind):
    found = [Line.parse(text) for text in journal.path.read_bytes().splitlines()]
    return [line for line in found if line.type == kind]


def test_steps_are_said_at_most_every_second_and_metrics_every_two(tmp_path):
    clock = [0.0]
    progress, journal = started(tmp_path, clock)
    for number in range(1, 101):  # ten a second, for ten seconds
        clock[0] = number / 10
        progress(step(number))
    assert 9 <= len(lines_of(journal, "progress")) - 1 <= 11  # one is of the stage's start
    assert 4 <= len(lines_of(journal, "metrics")) <= 6
    last = lines_of(journal, "progress")[-1]
    assert (last.data["index"], last.data["num_tasks"]) == (1, 2)
    assert abs(last.data["seconds_left"] - (20_000 - last.data["step"]) / 10) < 1


def test_a_long_run_says_less_and_less(tmp_path):
    clock = [0.0]
    progress, journal = started(tmp_path, clock, 1_000_000)
    for number in range(1, 20_001):  # a step in ten seconds, for more than two days
        clock[0] = number * 10.0
        progress(step(number, 1_000_000))
    assert len(lines_of(journal, "metrics")) < 2000
    assert len(lines_of(journal, "progress")) < 12_000


def test_the_last_step_of_a_task_is_always_said_and_then_it_is_evaluated(tmp_path):
    clock = [0.0]
    progress, journal = started(tmp_path, clock, 3)
    for number in (1, 2, 3):
        progress(step(number, 3))
    assert lines_of(journal, "metrics")[-1].data["step"] == 3
    assert lines_of(journal, "progress")[-1].phase == "evaluating"


def test_the_start_says_where_it_starts_from(tmp_path):
    _, journal = started(tmp_path, [0.0])
    messages = [line.message for line in lines_of(journal, "status")]
    assert messages == [
        "data checked: 2 tasks, 16 rows; starting from version 3",
        "training task 1 of 2: banking",
    ]
