"""Covers `events`, `event_log`, `evaluation.scores`."""

import json
import math
from dataclasses import fields
from typing import get_args

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.training import events
from ratchet.pipelines.training.event_log import EVENTS_FILE, EventLog, EventReader
from ratchet.pipelines.training.events import (
    KINDS,
    Planned,
    PlannedStage,
    Resumed,
    RunEvent,
    Searched,
    SearchTrained,
    Setting,
    StageDone,
    StageStarted,
    StepTaken,
    Taught,
    Warned,
    WorkerStarted,
    event_from_json,
    event_to_json,
)
from tests.pipelines.conftest import SEARCH

STEP = StepTaken("banking", 0, 3, 10, loss=0.5, rows_per_second=100.0)
EVENTS = (
    Planned("runs/ab", None, (PlannedStage(("banking", "home"), 48, 2, 6),)),
    Warned("3 rows are empty"),
    WorkerStarted(),
    Resumed(1, 0, 2),
    StageStarted(1, ("home",)),
    SearchTrained("home", Setting(1e-3, {"ewc": 8.0}), None, 1.5),
    Searched("banking", SEARCH["banking"]),
    STEP,
    StageDone(
        1,
        ("home",),
        {"home": {"test_own": 0.5, "test_all": None, "num_validation": 12}},
        {"home": {"train_seconds": 1.25}},
    ),
    Taught(),
)


def test_every_event_has_a_kind_of_its_own():
    assert set(map(type, EVENTS)) == set(KINDS) == set(get_args(RunEvent))
    assert len(set(KINDS.values())) == len(KINDS)


@pytest.mark.parametrize("event", EVENTS, ids=KINDS.values())
def test_an_event_survives_json(event):
    assert event_from_json(json.loads(json.dumps(event_to_json(event)))) == event


def test_fields_of_an_event_are_keys_of_its_json():
    for event in EVENTS:
        names = {field.name for field in fields(event)}
        if isinstance(event, Searched):
            names = {"task", *(field.name for field in fields(event.record))}
        assert set(event_to_json(event)) == {"kind", "format", *names}


def test_the_log_is_followed_from_where_the_last_look_ended(tmp_path):
    log, reader = EventLog(tmp_path), EventReader(tmp_path)
    assert list(reader.read()) == []
    for event in EVENTS:
        log.emit(event)
    assert tuple(reader.read()) == EVENTS
    log.emit(STEP)
    assert list(reader.read()) == [STEP]
    lines = (tmp_path / EVENTS_FILE).read_text(encoding="utf-8").splitlines()
    assert list(json.loads(lines[-1]))[:2] == ["kind", "time"]


def test_only_the_first_worker_writes(tmp_path):
    EventLog(tmp_path, rank=1).emit(STEP)
    assert not (tmp_path / EVENTS_FILE).exists()


def test_a_loss_that_is_no_number_is_told_as_it_is():
    raw = event_to_json(StepTaken("banking", 0, 1, 2, math.nan, 1.0))
    found = event_from_json(json.loads(json.dumps(raw)))
    assert isinstance(found, StepTaken)
    assert math.isnan(found.loss)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": events.FORMAT + 1}, "newer release .*follow the run with the release"),
        ({"kind": "unheard_of"}, "of no kind that is known: 'unheard_of'"),
        ({"step": "third"}, "is broken: step: "),
    ],
)
def test_an_event_of_another_release_is_refused(change, words):
    with pytest.raises(VersionError, match=words):
        event_from_json(event_to_json(STEP) | change)
