"""Covers, beside `controller`: `attempt_state`, `job_steps`, `log_once`, `mirror`,
`version_facts`.
"""

import shutil
import time

import pytest

from ratchet.service.control import attempt_state as sighting
from ratchet.service.control.version_facts import new_version
from ratchet.service.driver.job_folder import DriverProcess
from ratchet.service.errors import LeaseLostError
from ratchet.service.schemas.jobs import JobError, ProblemView, Progress
from ratchet.service.store.asking import ask
from ratchet.service.store.events import list_events
from ratchet.service.store.finishing import succeed
from ratchet.service.store.leases import acquire
from ratchet.service.store.lineages import (
    get_lineage,
    list_promotions,
    list_versions,
    promote,
    unmirrored,
)
from ratchet.service.store.tables import leases
from tests.service.control.stage import Stage, age, aliases_of


@pytest.fixture
def stage(db, settings):
    found = Stage(db, settings)
    yield found
    found.close()


def test_a_job_is_submitted_followed_and_succeeds_with_a_promotion(stage):
    job_id = stage.ask()
    stage.turn()
    assert stage.drivers.submitted == [f"{job_id}-1"]
    task = stage.folder(job_id).read_assignment()
    assert (task.kind, task.parent, task.address) == ("update", None, None)
    assert stage.folder(job_id).read_fence() == 1
    stage.begin(job_id)
    journal = stage.journal(job_id)
    place = {"task": "banking", "index": 1, "num_tasks": 2, "step": 3, "num_steps": 8}
    journal.write("training", type="status", phase="training")
    journal.write("", type="progress", phase="training", data=place)
    stage.turn()
    job = stage.job(job_id)
    assert (job.status, job.phase, job.progress) == ("running", "training", Progress(**place))
    stage.give(job_id)
    stage.turn()
    job = stage.job(job_id)
    assert (job.status, job.phase) == ("succeeded", "done")
    assert job.result["version"] == 1
    lineage = get_lineage(stage.db, "tiny")
    assert (lineage.champion, lineage.challenger, lineage.active_job) == (1, None, None)
    (version,) = list_versions(stage.db, "tiny")
    assert (version.number, version.parent, version.job_id) == (1, None, job_id)
    assert aliases_of(stage) == (1, None)
    known = stage.registry.aliases("tiny").registered[1]
    assert (known.run, known.metrics) == ("a" * 32, {"average_accuracy": 0.5})
    events = list_events(stage.db, job_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert "training" in [event.message for event in events]
    stage.turn(3)  # nothing is done twice
    assert stage.drivers.submitted == [f"{job_id}-1"]
    assert len(list_promotions(stage.db, "tiny")) == 1
    assert len(list_events(stage.db, job_id)) == len(events)


def test_a_refused_version_waits_as_challenger(stage):
    for promoted in (True, False):
        job_id = stage.ask(spec={"lineage": "tiny", "n": promoted})
        stage.turn()
        stage.begin(job_id)
        stage.give(job_id, promoted=promoted)
        stage.turn()
        assert stage.job(job_id).status == "succeeded"
    assert aliases_of(stage) == (1, 2)
    refused, promoted = list_promotions(stage.db, "tiny")
    assert (refused.kind, refused.reasons) == ("refused", ["banking fell from 0.9 to 0.2"])
    assert promoted.kind == "promoted"


@pytest.mark.parametrize("kind", ["spec", "data", "method", "model", "version", "diverged"])
def test_what_is_wrong_with_a_job_itself_is_never_tried_again(stage, kind):
    job_id = stage.ask()
    stage.turn()
    stage.begin(job_id)
    stage.refuse(job_id, kind)
    stage.turn()
    job = stage.job(job_id)
    assert job.status == "failed"
    problems = [ProblemView(where="x", message="odd")]
    assert job.error == JobError(code=kind, message=f"{kind} is wrong", problems=problems)
    assert get_lineage(stage.db, "tiny").active_job is None
    stage.turn(2)
    assert len(stage.drivers.submitted) == 1


def test_a_dead_driver_is_replaced_and_the_job_keeps_its_lineage(stage):
    job_id, other = stage.ask(), stage.ask(spec={"lineage": "tiny", "n": 2})
    stage.turn()
    stage.kill(stage.begin(job_id))
    stage.turn()
    job = stage.job(job_id)
    assert (job.status, job.attempt, job.num_lost) == ("queued", 1, 1)
    stage.turn()
    assert stage.drivers.submitted == [f"{job_id}-1"]  # it waits, and the other waits for it
    stage.wait_out(job_id)
    stage.turn()
    assert stage.drivers.submitted == [f"{job_id}-1", f"{job_id}-2"]
    assert stage.folder(job_id).read_fence() == 2
    assert stage.job(other).status == "queued"


def test_a_job_that_is_lost_too_often_fails(stage, settings, db):
    patient = Stage(db, settings.model_copy(update={"max_lost_attempts": 1}))
    job_id = patient.ask()
    for _ in range(2):
        patient.wait_out(job_id)
        patient.turn()
        patient.kill(patient.begin(job_id))
        patient.turn()
    job = patient.job(job_id)
    assert (job.status, job.error.code, job.attempt) == ("failed", "lost", 2)


def test_out_of_memory_is_tried_once_more(stage):
    job_id = stage.ask()
    for attempt, status in ((1, "queued"), (2, "failed")):
        stage.wait_out(job_id)
        stage.turn()
        assert stage.job(job_id).attempt == attempt
        stage.begin(job_id)
        stage.refuse(job_id, "memory", retryable=True)
        stage.turn()
        assert stage.job(job_id).status == status


def test_a_result_wins_over_a_launcher_that_says_it_failed(stage):
    job_id = stage.ask()
    stage.turn()
    stage.kill(stage.begin(job_id))
    stage.drivers.standings[f"{job_id}-1"] = "ended"
    stage.give(job_id)
    stage.turn()
    assert stage.job(job_id).status == "succeeded"
    assert stage.job(job_id).attempt == 1


@pytest.mark.parametrize("standing", ["gone", "ended", "unknown", "running"])
def test_a_driver_that_lives_is_left_alone_whatever_the_launcher_says(stage, standing):
    job_id = stage.ask()
    stage.turn()
    stage.begin(job_id)
    stage.drivers.standings[f"{job_id}-1"] = standing
    stage.turn(2)
    assert stage.job(job_id).status == "running"
    assert stage.drivers.stopped == []


def hurry(monkeypatch):
    """Be patient with silent drivers for a fraction of a second only."""
    monkeypatch.setattr(sighting, "SILENT_SECONDS", 0.2)
    monkeypatch.setattr(sighting, "HUNG_SECONDS", 0.4)


@pytest.mark.parametrize(("standing", "seconds"), [("gone", 0.25), ("running", 0.45)])
def test_a_driver_that_hangs_is_stopped_and_then_lost(stage, standing, seconds, monkeypatch):
    hurry(monkeypatch)
    job_id = stage.ask()
    stage.turn()
    sleeper = stage.begin(job_id)
    stage.drivers.standings[f"{job_id}-1"] = standing
    stage.turn()
    assert stage.drivers.stopped == []
    time.sleep(seconds)
    stage.turn()
    assert stage.drivers.stopped == [f"{job_id}-1"]
    assert stage.folder(job_id).read_fence() == 0
    stage.kill(sleeper)
    stage.turn()
    assert stage.job(job_id).status == "queued"


def test_a_driver_that_beats_is_heard_by_whatever_clock(stage, monkeypatch):
    hurry(monkeypatch)
    job_id = stage.ask()
    stage.turn()
    stage.begin(job_id)
    for late in (1000, 999, 998):  # seconds that the file server's clock is behind
        for path in (stage.folder(job_id).heartbeat, stage.folder(job_id).path / "driver-1.json"):
            age(path, late)
        stage.turn()
        time.sleep(0.45)
    assert stage.drivers.stopped == []
    assert stage.job(job_id).status == "running"


def test_a_machine_that_slept_takes_nobodys_silence_for_a_hung_driver(stage, monkeypatch):
    job_id = stage.ask()
    stage.turn()
    stage.begin(job_id)
    stage.turn()
    now = time.monotonic()
    for slept in (3600.0, 3600.5, 7200.0):
        monkeypatch.setattr(sighting.time, "monotonic", lambda slept=slept: now + slept)
        stage.turn()
    assert stage.drivers.stopped == []


def test_a_driver_on_another_machine_is_judged_by_its_heartbeat(stage, monkeypatch):
    hurry(monkeypatch)
    job_id = stage.ask()
    stage.turn()
    folder = stage.folder(job_id)
    folder.write_driver(1, DriverProcess(1, 1.0, "elsewhere"))
    folder.heartbeat.touch()
    stage.drivers.standings[f"{job_id}-1"] = "gone"
    stage.turn()
    assert stage.job(job_id).status == "running"
    time.sleep(0.25)
    stage.turn()
    assert stage.job(job_id).status == "queued"
    # Should it live after all, it ends, whatever becomes of the job.
    assert folder.read_fence() == 0


def test_an_attempt_that_the_launcher_forgot_before_it_began_is_submitted_again(stage):
    job_id = stage.ask()
    stage.turn()
    del stage.drivers.standings[f"{job_id}-1"]
    stage.turn()
    assert stage.drivers.submitted == [f"{job_id}-1", f"{job_id}-1"]
    assert stage.job(job_id).attempt == 1


def test_a_launcher_that_is_away_is_waited_for(stage):
    stage.drivers.is_away = True
    job_id = stage.ask()
    stage.turn(3)
    assert stage.job(job_id).status == "running"
    assert stage.drivers.submitted == []
    stage.drivers.is_away = False
    stage.turn()
    assert stage.drivers.submitted == [f"{job_id}-1"]


def test_a_lineage_that_is_taught_beside_the_service_is_waited_for_without_losing_attempts(stage):
    job_id = stage.ask()
    with stage.registry.update_lock("tiny"):
        stage.turn(3)
        assert stage.drivers.submitted == []
    assert stage.job(job_id).phase == "waiting"
    (why,) = [text for text in stage.messages(job_id) if text.startswith("Waits")]
    assert "Lineage tiny is being changed by process" in why
    stage.turn()
    assert stage.drivers.submitted == [f"{job_id}-1"]
    assert stage.job(job_id).num_lost == 0


@pytest.mark.parametrize(("wanted", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_a_running_job_ends_as_asked_once_its_driver_is_gone(stage, wanted, status):
    job_id = stage.ask()
    stage.turn()
    sleeper = stage.begin(job_id)
    run = stage.settings.home / "runs" / "tiny" / f"{job_id}-from-base" / "checkpoints"
    run.mkdir(parents=True)
    ask(stage.db, job_id, wanted)
    stage.turn()
    assert stage.drivers.stopped == [f"{job_id}-1"]
    job = stage.job(job_id)
    assert (job.status, job.phase) == ("running", "stopping")
    stage.kill(sleeper)
    stage.turn()
    assert stage.job(job_id).status == status
    assert get_lineage(stage.db, "tiny").active_job is None
    assert run.exists() == (wanted == "pause")
    if wanted == "pause":
        ask(stage.db, job_id, "resume")
        stage.turn()
        assert stage.drivers.submitted[-1] == f"{job_id}-2"


@pytest.mark.parametrize("says", [False, True])
def test_a_pause_that_was_taken_back_costs_no_attempt(stage, db, settings, says):
    strict = Stage(db, settings.model_copy(update={"max_lost_attempts": 0}))
    job_id = strict.ask()
    strict.turn()
    sleeper = strict.begin(job_id)
    ask(db, job_id, "pause")
    strict.turn()
    ask(db, job_id, "resume")
    if says:  # its last words, which name a phase
        strict.journal(job_id).write("training", type="status", phase="training")
    strict.turn()
    assert strict.job(job_id).status == "running"
    strict.kill(sleeper)
    strict.turn()
    job = strict.job(job_id)
    assert (job.status, job.attempt, job.num_lost, job.error) == ("running", 2, 0, None)
    assert strict.drivers.submitted == [f"{job_id}-1", f"{job_id}-2"]
    assert strict.folder(job_id).read_fence() == 2


def test_a_job_that_never_began_is_cancelled_even_while_the_launcher_is_away(stage):
    stage.drivers.is_away = True
    job_id = stage.ask()
    stage.turn()
    ask(stage.db, job_id, "cancel")
    stage.turn(3)
    assert stage.job(job_id).status == "cancelled"


@pytest.mark.parametrize(("wanted", "status"), [("cancel", "cancelled"), ("pause", "paused")])
def test_an_attempt_that_a_launcher_may_yet_begin_ends_behind_the_fence(stage, wanted, status):
    job_id = stage.ask()
    stage.turn()
    del stage.drivers.standings[f"{job_id}-1"]  # as of a submission whose answer was lost
    ask(stage.db, job_id, wanted)
    stage.turn(2)
    assert stage.job(job_id).status == status
    assert stage.folder(job_id).read_fence() == 0


@pytest.mark.parametrize("place", ["job", "run"])
def test_a_cancellation_that_comes_after_the_version_keeps_it_and_promotes_nothing(stage, place):
    job_id = stage.ask()
    stage.turn()
    stage.kill(stage.begin(job_id))
    if place == "job":
        stage.give(job_id)
    else:
        stage.keep_result(job_id)
    ask(stage.db, job_id, "cancel")
    stage.turn()
    assert stage.job(job_id).status == "succeeded"
    (promotion,) = list_promotions(stage.db, "tiny")
    assert promotion.kind == "refused"
    assert "cancelled" in promotion.reasons[-1]
    assert aliases_of(stage) == (None, 1)


GARBAGE = [b"", b"{", b"[]", b"null", b'{"version": 7}', b"\x00\xff", b'{"a": NaN}']


@pytest.mark.parametrize("name", ["result.json", "failure-1.json", "driver-1.json"])
@pytest.mark.parametrize("content", GARBAGE)
def test_garbage_in_one_folder_fails_that_job_and_no_other(stage, name, content):
    bad = stage.ask("bad")
    stage.turn()
    (stage.folder(bad).path / name).write_bytes(content)
    good = stage.ask("good")
    stage.turn()
    stage.begin(good)
    stage.give(good)
    stage.turn()
    assert stage.job(bad).status == "failed"
    assert stage.job(good).status == "succeeded"
    assert stage.folder(bad).read_fence() == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {"metrics": []},
        {"metrics": None},
        {"run": 7},
        {"lineage": "good"},
        {"version": True},
        {"version": "1"},
        {"promoted": 1},
        {"gate": []},
        {"gate": {"reasons": "none"}},
    ],
)
def test_a_result_that_no_update_gives_fails_its_own_job(stage, wrong):
    bad, good = stage.ask("bad"), stage.ask("good")
    stage.turn()
    for job_id in (bad, good):
        stage.begin(job_id)
        stage.give(job_id)
    stage.folder(bad).write_result(stage.folder(bad).read_result() | wrong)
    stage.turn(2)
    assert stage.job(good).status == "succeeded"
    job = stage.job(bad)
    assert (job.status, job.error.code) == ("failed", "version")
    assert f"result.{next(iter(wrong))}: " in job.error.message
    assert list_versions(stage.db, "bad") == []
    assert get_lineage(stage.db, "bad").active_job is None


def test_a_lineage_that_cannot_be_mirrored_stops_no_other(stage):
    for name in ("bad", "good"):
        job_id = stage.ask(name)
        stage.turn()
        stage.begin(job_id)
        result = stage.give(job_id)
        lease = stage.controller._lease
        version = new_version(stage.registry, result, None, None)
        wrong = {"metrics": ["f1"]} if name == "bad" else {}  # as an older release took it
        succeed(stage.db, lease, stage.job(job_id), result | wrong, version)
    stage.turn(2)
    assert aliases_of(stage, "good") == (1, None)
    assert [promotion.lineage for promotion in unmirrored(stage.db)] == ["bad"]


def test_garbage_in_the_journal_is_passed_over(stage):
    job_id = stage.ask()
    stage.turn()
    stage.begin(job_id)
    with stage.folder(job_id).events.open("wb") as file:
        file.write(b"\x00\xff\n{}\n[1]\n" + b'{"attempt": 1}\n' + b"x" * 600_000 + b"\n")
    stage.journal(job_id).write("after it all")
    with stage.folder(job_id).events.open("ab") as file:
        file.write(b'{"attempt": 1, "time"')
    stage.turn(3)
    assert stage.messages(job_id)[-1] == "after it all"
    stage.journal(job_id).write("and on")  # the line that was cut off is ended first
    stage.turn()
    assert stage.messages(job_id)[-2:] == ["after it all", "and on"]


def test_a_folder_that_is_a_file_fails_nobody_else(stage):
    bad = stage.ask("bad")
    (stage.settings.home / "jobs").mkdir(parents=True)
    (stage.settings.home / "jobs" / bad).write_text("in the way")
    good = stage.ask("good")
    stage.turn(2)
    assert stage.drivers.submitted == [f"{good}-1"]


def test_a_new_controller_goes_on_where_the_old_one_was_killed(stage):
    job_id = stage.ask()
    stage.turn()
    stage.begin(job_id)
    stage.journal(job_id).write("one")
    stage.turn()
    stage.journal(job_id).write("two")
    stage.controller.leave()
    stage.controller = stage.new_controller()
    stage.turn()
    assert [text for text in stage.messages(job_id) if text in ("one", "two")] == ["one", "two"]
    assert stage.drivers.submitted == [f"{job_id}-1"]


def test_of_two_controllers_one_acts_and_the_one_taken_over_acts_no_more(stage):
    stage.turn()
    other = stage.new_controller()
    assert not other.turn()
    with stage.db.writing() as tx:
        tx.change(leases.update().values(expires_at=0.0))
    assert other.turn()
    stage.ask()
    with pytest.raises(LeaseLostError):
        stage.controller.turn()
    assert stage.drivers.submitted == []
    assert acquire(stage.db, "controller", "third", 1.0) is None


def test_a_controller_that_was_taken_over_a_moment_ago_writes_no_file(stage):
    stage.turn()
    old = stage.controller._lease
    given, asked = stage.ask("given"), stage.ask("asked")
    stage.turn()
    stage.begin(given)
    result = stage.give(given)
    steps = stage.controller._steps
    succeed(
        stage.db, old, stage.job(given), result, new_version(stage.registry, result, None, None)
    )
    stage.begin(asked)
    ask(stage.db, asked, "cancel")
    with stage.db.writing() as tx:
        tx.change(leases.update().values(expires_at=0.0))
    assert acquire(stage.db, "controller", "other", 5.0) is not None
    with pytest.raises(LeaseLostError):
        stage.controller.mirror.turn(lambda: old)
    assert not (stage.registry.folder / "given" / "aliases.json").exists()
    with pytest.raises(LeaseLostError):
        steps.abandon(old, stage.job(asked), ValueError("x"))
    assert stage.folder(asked).read_fence() == 1
    with pytest.raises(LeaseLostError):
        steps._submit(old, stage.job(asked), stage.folder(asked))
    assert stage.drivers.submitted == [f"{given}-1", f"{asked}-1"]


def test_a_promotion_by_hand_reaches_the_aliases(stage):
    for promoted in (True, False):
        job_id = stage.ask(spec={"lineage": "tiny", "n": promoted})
        stage.turn()
        stage.begin(job_id)
        stage.give(job_id, promoted=promoted)
        stage.turn()
    promote(stage.db, "tiny", 2)
    stage.turn()
    assert aliases_of(stage) == (2, None)
    champions = [c.number for c in stage.registry.aliases("tiny").history if c.alias == "champion"]
    assert champions == [1, 2]


@pytest.mark.parametrize("damage", ["older", "gone"])
def test_aliases_that_were_put_back_to_an_older_copy_follow_the_database_again(stage, damage):
    path = stage.registry.folder / "tiny" / "aliases.json"
    for number in (1, 2):
        job_id = stage.ask(spec={"lineage": "tiny", "n": number})
        stage.turn()
        stage.begin(job_id)
        stage.give(job_id)
        stage.turn()
        if number == 1:
            shutil.copy(path, path.with_name("older.json"))
    assert aliases_of(stage) == (2, None)
    path.with_name("older.json").replace(path) if damage == "older" else path.unlink()
    stage.controller.leave()
    stage.controller = stage.new_controller()
    stage.turn()
    assert aliases_of(stage) == (2, None)
    assert set(stage.registry.aliases("tiny").registered) == {1, 2}


def test_a_controller_killed_between_the_transaction_and_the_mirror_is_made_up_for(stage):
    job_id = stage.ask()
    stage.turn()
    stage.begin(job_id)
    stage.give(job_id)
    steps = stage.controller._steps
    steps.step(stage.controller._lease, stage.job(job_id))  # the transaction, and nothing after
    assert get_lineage(stage.db, "tiny").champion == 1
    assert stage.registry.champion("tiny") is None
    stage.controller.leave()
    stage.controller = stage.new_controller()
    stage.turn()
    assert aliases_of(stage) == (1, None)
    assert len(list_promotions(stage.db, "tiny")) == 1
