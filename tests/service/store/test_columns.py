"""Covers, beside `columns`: `events`, `schemas.version_facts`.

What the columns hold: any text, JSON without odd numbers, records of this release alone.
"""

import json

import pytest
from sqlalchemy import JSON, Text, bindparam, cast, literal_column, select, update

from ratchet.service.errors import (
    DatabaseSchemaError,
)
from ratchet.service.schemas.jobs import JobError, ProblemView
from ratchet.service.store.events import list_events
from ratchet.service.store.jobs import get_job, list_jobs
from ratchet.service.store.records import NewEvent
from ratchet.service.store.running_jobs import (
    Limits,
    claim_next,
    fail,
    record_events,
)
from ratchet.service.store.tables import jobs
from tests.service.store.samples import plan

ODD = ['"', "\\", "$.a", "a.b", "0", "[0]", "'", "é", "😀", "a\x00b", "\ud800", "%", "x" * 64, ""]


@pytest.mark.parametrize("name", ODD, ids=ascii)
def test_any_text_can_be_stored_and_found_again(db, name):
    job = plan(db, 0, metadata={name: name, "other": "x"})
    plan(db, 1, metadata={"other": name})
    assert [found.id for found in list_jobs(db, metadata={name: name})] == [job.id]
    assert list_jobs(db, metadata={name: name, "other": "y"}) == []
    expected = name.replace("\x00", "�").replace("\ud800", "�")
    assert get_job(db, job.id).metadata == {expected: expected, "other": "x"}


def test_events_hold_any_text_and_numbers_that_json_lacks_become_null(db, lease):
    plan(db, 0)
    job = claim_next(db, lease, Limits(1))
    data = {"a": [float("inf"), 1.5], "b": {"c": float("nan")}, "d": "x\x00"}
    told = [NewEvent("\x00 \udfff", "error", "metrics", data, created_at=12.5)]
    record_events(db, lease, job.id, 1, told, 0, 2**40)
    event = list_events(db, job.id, after_sequence=2)[0]
    assert (event.message, event.created_at) == ("� �", 12.5)
    assert event.data == {"a": [None, 1.5], "b": {"c": None}, "d": "x�"}
    assert event.id == f"ftevent-{job.id.partition('-')[2]}-000003"
    assert get_job(db, job.id).events_offset == 2**40


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"progress": '{"step": "many"}'}, "Progress of this release .step: "),
        ({"progress": '{"step": 1, "share": 0.5}'}, "Progress .*share: unknown field"),
        ({"error": '{"kind": "data", "message": "bad rows"}'}, "JobError .*code: "),
        ({"error": '"bad rows"'}, "JobError"),
    ],
)
def test_a_row_of_another_form_is_refused_with_what_to_do(db, values, what):
    job = plan(db, 0)
    ((column, text_of_json),) = values.items()
    with db.writing() as tx:
        held = bindparam("held", text_of_json, Text)
        cast_ = cast(held, JSON) if tx.is_postgres else held
        tx.change(update(jobs).values({literal_column(column): cast_}))
    with pytest.raises(DatabaseSchemaError, match=f"{what}.*Another release wrote it: run that"):
        get_job(db, job.id)


def test_a_record_is_stored_as_its_fields_and_read_back(db, lease):
    plan(db, 0)
    job = claim_next(db, lease, Limits(1))
    problem = ProblemView(where="tasks[0]", message="bad", value=float("inf"), hint="mend it")
    fail(db, lease, job, JobError(code="data", message="bad rows", problems=[problem]))
    stored = {"where": "tasks[0]", "message": "bad", "value": None, "hint": "mend it"}
    with db.reading() as tx:
        text_of_row = tx.value(select(cast(jobs.c.error, Text)))
    assert json.loads(text_of_row) == {"code": "data", "message": "bad rows", "problems": [stored]}
    assert get_job(db, job.id).error.problems == [ProblemView(**stored)]
