import io

import pytest
from rich.console import Console

from service.api.native_schemas import EventView, JobView
from service.job_lines import JobLines
from service.job_view import show_job, show_jobs
from tests.service.client.scripted import JOB, event

PROGRESS = {"task": "home", "index": 1, "num_tasks": 2, "step": 5, "num_steps": 10}


def job(**changes):
    return JobView.model_validate({**JOB, **changes})


def said(**changes):
    return EventView.model_validate({**event(1), **changes})


def shown(show, terminal=False):
    console = Console(file=io.StringIO(), force_terminal=terminal, width=100, highlight=False)
    show(console)
    return console.file.getvalue()


def test_lines_without_a_terminal_are_events_and_now_and_then_the_progress():
    now = [0.0]
    asked = []

    def read():
        asked.append(now[0])
        return job(progress=PROGRESS)

    def follow(console):
        with JobLines(console, read, lambda: now[0]) as lines:
            for seconds in range(1, 13):
                now[0] = float(seconds)
                lines(said(type="metrics", message="loss 0.1"))
            lines(said(message="[bold] is no markup"))

    text = shown(follow)
    assert asked == [0.0, 10.0]
    assert text.count("training · task 1/2 home · step 5/10 · 25%") == 2
    assert "loss" not in text
    assert "[bold] is no markup" in text


def test_a_terminal_gets_a_bar_below_the_events():
    def follow(console):
        with JobLines(console, lambda: job(progress={**PROGRESS, "seconds_left": 65})) as lines:
            lines(said(message="learned banking", level="warn"))

    text = shown(follow, terminal=True)
    assert "learned banking" in text
    assert "1 min 05 s left" in text
    assert "25%" in text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, ["update of tiny", "training"]),
        (
            {
                "status": "succeeded",
                "attempt": 3,
                "finished_at": 67,
                "promotion": {"decision": "refused", "version": 4, "reasons": ["[a] lost 0.2"]},
                "result": {"report": "/x/report.html"},
            },
            ["took 1 min 05 s, 3 attempts", "version 4 was refused by the gate", "[a] lost 0.2"],
        ),
        (
            {
                "status": "succeeded",
                "object": "study",
                "result": {
                    "page": "/x/study.html",
                    "chosen": {
                        "number": 7,
                        "settings": {"training.learning_rate": 0.001, "methods.ewc.strength": 9.5},
                    },
                },
            },
            [
                "page: /x/study.html",
                "chosen: trial 7",
                "--set training.learning_rate=0.001 --set methods.ewc.strength=9.5",
            ],
        ),
        (
            {
                "status": "failed",
                "error": {
                    "code": "data",
                    "message": "2 problems",
                    "problems": [{"where": "a.jsonl:3", "message": "no label", "hint": "Add one"}],
                },
            },
            ["2 problems", "a.jsonl:3: no label. Add one"],
        ),
    ],
)
def test_a_job_is_shown_with_what_came_of_it(changes, words):
    text = shown(lambda console: show_job(job(**changes), console))
    assert all(word in text for word in words), text


def test_no_jobs_are_said_and_jobs_are_listed():
    assert "ratchet submit" in shown(lambda console: show_jobs([], console))
    promoted = job(status="succeeded", promotion={"decision": "promoted", "version": 2})
    text = shown(lambda console: show_jobs([promoted], console))
    assert JOB["id"] in text
    assert "version 2 is champion" in text
