"""Covers, beside `journal`: `control.follower`."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.service.control.follower import CHUNK_BYTES, hear
from ratchet.service.driver.journal import Journal, Line
from ratchet.service.schemas.jobs import Progress


@given(st.binary())
def test_no_bytes_whatsoever_break_a_reader(text):
    line = Line.parse(text)
    assert line is None or isinstance(line, Line)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8), st.integers(0, 400))
def test_every_line_is_heard_once_wherever_the_last_look_ended(tmp_path_factory, messages, cut):
    path = tmp_path_factory.mktemp("journal") / "events.jsonl"
    journal = Journal(path, 1)
    for message in messages:
        journal.write(message)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    first = hear(path, 0, 1)
    path.write_bytes(whole)
    second = hear(path, first.to_offset, 1)
    heard = [event.message for event in (*first.told, *second.told)]
    assert heard == [message[:2000] for message in messages]
    assert second.to_offset == len(whole)
    assert hear(path, second.to_offset, 1).told == ()


def test_progress_is_heard_and_is_no_event(tmp_path):
    journal = Journal(tmp_path / "events.jsonl", 2)
    journal.write("", type="progress", phase="training", data={"step": 1})
    journal.write("", type="progress", phase="evaluating", data={"step": 2})
    journal.write("done", type="checkpoint")
    heard = hear(journal.path, 0, 2)
    assert (heard.phase, heard.progress) == ("evaluating", Progress(step=2))
    (event,) = heard.told
    assert (event.message, event.type, event.data) == ("done", "checkpoint", {"attempt": 2})


def test_what_an_older_attempt_still_says_is_passed_over(tmp_path):
    Journal(tmp_path / "events.jsonl", 1).write("late", phase="stopping")
    journal = Journal(tmp_path / "events.jsonl", 2)
    journal.write("in time")
    heard = hear(journal.path, 0, 2)
    assert [event.message for event in heard.told] == ["in time"]
    assert heard.phase is None


def test_a_line_that_was_cut_off_is_ended_by_the_next_attempt(tmp_path):
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"attempt": 1, "ti')
    Journal(path, 2).write("on")
    assert [event.message for event in hear(path, 0, 2).told] == ["on"]
    assert path.read_bytes().count(b"\n") == 2


def test_more_than_one_look_can_hold_is_heard_in_several(tmp_path):
    journal = Journal(tmp_path / "events.jsonl", 1)
    for number in range(4):
        journal.write(f"{number} " + "x" * (CHUNK_BYTES // 2 - 100))
    offset, told, looks = 0, [], 0
    while True:
        heard = hear(journal.path, offset, 1)
        offset, looks = heard.to_offset, looks + 1
        told += heard.told
        if heard.is_all:
            break
    assert [event.message[0] for event in told] == ["0", "1", "2", "3"]
    assert looks > 1


def test_numbers_that_json_does_not_know_become_null_and_people_read_along(tmp_path):
    echo = io.StringIO()
    folder = tmp_path / "ftjob-7"
    folder.mkdir()
    journal = Journal(folder / "events.jsonl", 3, echo)
    journal.write("it diverges", level="warn", data={"loss": float("nan"), "by": [float("inf")]})
    journal.write("", type="progress")
    assert json.loads(journal.path.read_bytes().splitlines()[0])["data"] == {
        "loss": None,
        "by": [None],
    }
    (line,) = echo.getvalue().splitlines()
    assert line.endswith("warn ftjob-7 attempt 3: it diverges")


@pytest.mark.parametrize("field", ["attempt", "time", "level", "type", "phase", "message", "data"])
def test_a_line_with_a_field_of_another_kind_is_none(tmp_path, field):
    journal = Journal(tmp_path / "events.jsonl", 1)
    journal.write("fine")
    raw = json.loads(journal.path.read_bytes())
    assert Line.parse(json.dumps(raw).encode()) is not None
    for wrong in ({"a": 1} if field != "data" else "text", ["x"], None):
        if wrong is None and field in ("phase", "data"):
            continue
        assert Line.parse(json.dumps(raw | {field: wrong}).encode()) is None


def test_after_its_end_nothing_more_is_taken(tmp_path):
    echo = io.StringIO()
    journal = Journal(tmp_path / "events.jsonl", 1, echo)
    journal.write("at work")
    journal.end("asked to stop")
    journal.write("still at work")
    lines = [Line.parse(text) for text in journal.path.read_bytes().splitlines()]
    assert [(line.type, line.message) for line in lines] == [
        ("message", "at work"),
        ("status", "asked to stop"),
    ]
    assert "still at work" not in echo.getvalue()
