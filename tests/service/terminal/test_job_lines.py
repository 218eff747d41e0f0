"""Covers, beside `job_lines`: `jobs`."""

import io
import itertools
import threading
import time

import pytest
from rich.console import Console

from ratchet.service.errors import (
    JobNotFoundError,
    OverloadedError,
    RateLimitedError,
    UnavailableError,
)
from ratchet.service.schemas.jobs import EventView, JobView
from ratchet.service.terminal.job_lines import JobLines, progress_words
from ratchet.service.terminal.jobs import show_job, show_jobs
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


class Reader:
    """Reads a job that is a step further each time; `errors` come in between, by their places."""

    def __init__(self, errors=None, at_step=99):
        self.num_read = 0
        self.errors = errors or {}
        self.at_step = at_step
        self.is_there = threading.Event()

    def __call__(self):
        self.num_read += 1
        if self.num_read >= self.at_step:
            self.is_there.set()
        if self.num_read in self.errors:
            raise self.errors[self.num_read]
        return job(progress={**PROGRESS, "step": self.num_read})


def ever_later():
    """A clock on which every reading is due."""
    return itertools.count(0, 1000).__next__


def tickers():
    return [thread for thread in threading.enumerate() if thread.name == "job lines"]


def test_the_bar_moves_while_no_event_comes_and_stops_with_the_block():
    read = Reader(at_step=4)

    def follow(console):
        with JobLines(console, read, ever_later(), tick_seconds=0.01):
            assert read.is_there.wait(10)

    assert f"step {read.at_step}/10" in shown(follow, terminal=True)
    assert tickers() == []
    num_read = read.num_read
    time.sleep(0.05)
    assert read.num_read == num_read


def test_nothing_is_read_between_events_without_a_terminal():
    read = Reader()

    def follow(console):
        with JobLines(console, read, ever_later(), tick_seconds=0.01):
            time.sleep(0.05)

    shown(follow)
    assert read.num_read == 1


AWAY = [UnavailableError("away"), OverloadedError("full"), RateLimitedError("too often")]


@pytest.mark.parametrize("error", AWAY)
@pytest.mark.parametrize("terminal", [True, False])
def test_the_words_stay_while_the_service_is_away(error, terminal):
    read = Reader({2: error})

    def follow(console):
        with JobLines(console, read, ever_later()) as lines:
            for _ in range(2):
                lines(said(message="learned banking"))

    text = shown(follow, terminal)
    assert read.num_read == 3
    assert "step 3/10" in text
    assert text.count("learned banking") == 2


@pytest.mark.parametrize(
    ("place", "error"),
    [(1, UnavailableError("never there")), (2, JobNotFoundError("no such job"))],
)
def test_what_does_not_pass_is_raised_and_the_terminal_is_left_clean(place, error):
    def follow(console):
        with (
            pytest.raises(type(error)),
            JobLines(console, Reader({place: error}), ever_later()) as lines,
        ):
            lines(said())

    shown(follow, terminal=True)
    assert tickers() == []


@pytest.mark.parametrize("error", [JobNotFoundError("gone"), RuntimeError("client is closed")])
def test_the_thread_leaves_errors_to_the_one_who_waits(error):
    """An error that left the thread would fail this test: pytest raises it."""
    read = Reader({2: error}, at_step=4)

    def follow(console):
        with JobLines(console, read, ever_later(), tick_seconds=0.01):
            assert read.is_there.wait(10)

    shown(follow, terminal=True)


def test_an_event_does_not_wait_for_a_reading_that_is_under_way():
    begun, may_end = threading.Event(), threading.Event()
    numbers = itertools.count(1)

    def read():
        if next(numbers) == 2:
            begun.set()
            assert may_end.wait(10)
        return job()

    def follow(console):
        with JobLines(console, read, ever_later(), tick_seconds=0.01) as lines:
            assert begun.wait(10)
            lines(said(message="learned banking"))
            assert "learned banking" in console.file.getvalue()
            may_end.set()

    shown(follow, terminal=True)


def test_the_time_left_runs_down_until_there_is_other_progress():
    now = [0.0]
    progress = {**PROGRESS, "seconds_left": 65.0}

    def follow(console):
        with JobLines(console, lambda: job(progress=progress), lambda: now[0], 60) as lines:
            for seconds, step in ((20.0, 5), (30.0, 6)):
                now[0] = seconds
                progress["step"] = step
                lines(said())
                lines._bar.refresh()

    text = shown(follow, terminal=True)
    assert "step 5/10 · 45.0 s left" in text
    assert "step 6/10 · 1 min 05 s left" in text


def test_time_that_is_used_up_is_not_said():
    now = job(progress={**PROGRESS, "seconds_left": 65.0})
    assert progress_words(now, 64.0).endswith("· 1.0 s left")
    assert progress_words(now, 65.0).endswith("step 5/10")


PLAN = {
    "lineage": "tiny",
    "parent": None,
    "model": "minilm",
    "methods": ["ewc"],
    "search": None,
    "warnings": ["[few] rows"],
    "tasks": [
        {
            "name": "banking",
            "labels": ["card", "loan"],
            "num_train": 24,
            "num_validation": 12,
            "num_test": 12,
            "num_steps": 6,
            "taught_with": [],
        }
    ],
    "num_steps": 6,
    "parameters": {
        "total": 22_700_000,
        "trainable": {"first_stage": 66, "later_stages": 66},
    },
    "bytes": {
        "version": 5000,
        "learned_weights": 4000,
        "method_state": 1000,
        "memory": 0,
        "router": 0,
        "held_out_rows": 0,
    },
    "seconds": {"estimate": 65, "by_phase": {"training": 65}, "basis": "one stage"},
}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"status": "succeeded", "object": "plan", "result": PLAN},
            ["plan of tiny", "warning: [few] rows", "banking", "22.7 M", "about 1 min 05 s"],
        ),
        ({"object": "plan"}, ["plan of tiny", "training"]),
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
                "status": "succeeded",
                "result": {
                    "gate": {"headline": "Held everything [it knew]."},
                    "as_served": {"average_accuracy": 0.843},
                    "report": "/x/report.html",
                },
            },
            ["Held everything [it knew].", "as served: 84.3% of test rows", "/x/report.html"],
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


def test_on_a_narrow_terminal_nothing_of_a_job_is_cut_off():
    console = Console(file=io.StringIO(), width=44)
    progress = {**PROGRESS, "seconds_left": 185.0}
    show_jobs([job(progress=progress)], console)
    text = " ".join(console.file.getvalue().split())
    assert f"{JOB['id']} training · task 1/2 home · step 5/10 · 3 min 05 s left" in text
    assert "…" not in text


def test_no_jobs_are_said_and_jobs_are_listed():
    assert "ratchet submit" in shown(lambda console: show_jobs([], console))
    promoted = job(status="succeeded", promotion={"decision": "promoted", "version": 2})
    text = shown(lambda console: show_jobs([promoted], console))
    assert JOB["id"] in text
    assert "version 2 is champion" in text
