"""Covers `adoption`.

What a controller finds when it takes over: a home, a store that is away, jobs cut off.
"""

import errno
import threading
import time

import pytest

from ratchet.pipelines.errors import ObjectStoreUnreachableError
from ratchet.service.control import adoption, controller
from ratchet.service.control.cleanup import clear_ended
from ratchet.service.store.lineages import get_lineage, list_lineages, list_versions, rollback
from ratchet.service.store.running_jobs import fail
from tests.service.control.stage import Stage, aliases_of, write_bare_versions
from tests.service.store.samples import LOST


@pytest.fixture
def stage(db, settings):
    found = Stage(db, settings)
    yield found
    found.close()


@pytest.mark.parametrize(
    "fault",
    [ObjectStoreUnreachableError("s3://bucket: cannot be reached"), OSError(errno.ESTALE, "NFS")],
)
def test_while_the_home_is_away_jobs_are_followed_and_none_is_started(stage, monkeypatch, fault):
    stage.turn()
    running = stage.ask("tiny")
    stage.turn()
    stage.begin(running)
    stage.controller.leave()
    stage.controller = stage.new_controller()
    registry = stage.controller.registry
    with monkeypatch.context() as away:

        def unreachable():
            raise fault

        away.setattr(registry, "lineages", unreachable)
        waiting = stage.ask("other")
        stage.journal(running).write("goes on")
        stage.turn(2)
        assert "goes on" in stage.messages(running)
        assert stage.job(waiting).status == "queued"
    stage.controller._adopt_due = 0.0
    stage.turn()
    assert stage.job(waiting).status == "running"


def test_a_home_of_many_lineages_is_taken_in_under_one_lease(stage, monkeypatch):
    for name in ("a", "b", "c", "d"):
        write_bare_versions(stage, name, 1)
    other, slowly = stage.new_controller(), adoption._adopt

    def adopt_slowly(*arguments):
        time.sleep(0.4 * stage.settings.lease_seconds)
        assert not other.turn()
        slowly(*arguments)

    monkeypatch.setattr(adoption, "_adopt", adopt_slowly)
    stage.turn()
    assert stage.controller._lease.term == 1
    assert len(list_lineages(stage.db)) == 4


def test_a_turn_that_fails_is_not_the_controllers_end(stage, monkeypatch, caplog):
    stopping, turns = threading.Event(), []

    def turn():
        turns.append(1)
        if len(turns) == 2:
            stopping.set()
        raise OSError("the home is away")

    monkeypatch.setattr(stage.controller, "turn", turn)
    monkeypatch.setattr(controller, "AWAY_SECONDS", 0.01)
    stage.controller.run(stopping)
    assert len(turns) == 2
    assert "the home is away" in caplog.text


@pytest.mark.parametrize("end", ["failed", "lost"])
def test_an_attempt_that_failed_after_its_version_was_written_has_succeeded(stage, end):
    strict = stage.settings.model_copy(update={"max_lost_attempts": 0})
    stage.controller._steps.settings = strict
    job_id = stage.ask()
    stage.turn()
    sleeper = stage.begin(job_id)
    stage.keep_result(job_id)
    if end == "failed":
        stage.refuse(job_id, "internal")  # MLflow's outbox had no place on the disk, say
    else:
        stage.kill(sleeper)
    stage.turn()
    assert stage.job(job_id).status == "succeeded"
    assert aliases_of(stage) == (1, None)


def test_what_an_update_left_that_was_cancelled_in_its_pause_goes_too(stage):
    job_id, other = stage.ask(), stage.ask("other")
    stage.turn()
    runs = [stage.settings.home / "runs" / "tiny" / f"{own}-from-base" for own in (job_id, other)]
    for run in (*runs, runs[0].with_name("ftjob-of-nobody-from-base")):
        (run / "checkpoints").mkdir(parents=True)
    fail(stage.db, stage.controller._lease, stage.job(job_id), LOST)
    assert clear_ended(stage.db, stage.settings.home, stage.registry) == 1
    left = {path.parent.name for path in (stage.settings.home / "runs").glob("*/*/checkpoints")}
    assert left == {f"{other}-from-base", "ftjob-of-nobody-from-base"}


def test_a_lineage_that_lies_in_the_home_already_is_adopted(stage):
    write_bare_versions(stage, "old", 3)
    for number in (1, 2):
        stage.registry.register("old", number, {})
        stage.registry.promote("old", number)
    stage.registry.register("old", 3, {})
    (stage.registry.folder / "broken" / "1").mkdir(parents=True)
    (stage.registry.folder / "broken" / "1" / "manifest.json").write_text("{")
    stage.turn()
    lineage = get_lineage(stage.db, "old")
    assert (lineage.champion, lineage.challenger) == (2, 3)
    assert [version.number for version in list_versions(stage.db, "old")] == [3, 2, 1]
    assert rollback(stage.db, "old").version == 1
    stage.turn()
    assert aliases_of(stage, "old") == (1, 3)
    job_id = stage.ask("old")
    stage.turn()
    assert stage.job(job_id).parent == 1
