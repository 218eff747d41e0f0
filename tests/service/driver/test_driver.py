"""Covers `job_folder`, `kinds`."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from ratchet.pipelines.registry.registry import Registry
from ratchet.service.driver.job_folder import JobFolder
from tests.service.driver.processes import kept, lines_of, start, tiny_assignment
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
LONG = {"num_epochs": 4000, "batch_size": 4, "checkpoint_every_steps": 5}


def phases_of(folder):
    """The phases of a journal, each once where it stays."""
    found = []
    for line in lines_of(folder):
        if line.phase is not None and found[-1:] != [line.phase]:
            found.append(line.phase)
    return found


def is_training(folder, attempt=1):
    return any(line.type == "metrics" and line.attempt == attempt for line in lines_of(folder))


def checkpoints(home):
    return list((home / "runs").glob("*/*/checkpoints/stage_*"))


def test_an_update_leaves_its_version_its_result_and_its_story(tiny_model, tmp_path):
    _, folder = tiny_assignment(tiny_model, tmp_path, tasks=["banking", "home"])
    driver = start(folder)
    assert driver.wait(90) == 0
    result = folder.read_result()
    assert result["version"] == 1
    assert result["tasks"] == ["banking", "home"]
    assert len(result["run"]) == 32
    registry = Registry(tmp_path)
    assert registry.versions("tiny") == [1]
    assert registry.aliases("tiny").history == ()
    assert (tmp_path / "runs" / "tiny" / "ftjob-1-from-base" / "done.json").is_file()
    wanted = ["starting", "checking_data", "starting"]
    wanted += ["training", "evaluating"] * 2 + ["gating"]
    assert phases_of(folder) == wanted
    done = [line for line in lines_of(folder) if line.type == "checkpoint"]
    assert [line.data["step_number"] for line in done] == [8, 16]  # 24 rows, 16 at a time, 4 epochs
    assert [line.data["index"] for line in done] == [1, 2]
    assert {line.data["num_tasks"] for line in done} == {2}
    assert kept(folder, "driver-1.json")["pid"] == driver.pid
    assert folder.heartbeat.exists()
    log = folder.log(1).read_text()
    assert "info ftjob-1 attempt 1: training task 2 of 2: home" in log
    again = start(folder)  # there is a result: nothing is done again
    assert again.wait(90) == 0
    assert len([line for line in lines_of(folder) if "has started" in line.message]) == 1


@pytest.mark.parametrize(
    ("change", "kind", "where"),
    [
        ({"model": {"name": "/nowhere/at/all"}}, "model", None),
        ({"lineage": "", "scenario": "odd"}, "spec", {"lineage", "scenario"}),
        ({"tasks": []}, "spec", {"tasks"}),
    ],
)
def test_what_is_wrong_is_kept_with_every_problem(tiny_model, tmp_path, change, kind, where):
    task, folder = tiny_assignment(tiny_model, tmp_path)
    task.spec.update(change)
    folder.write_assignment(task)
    assert start(folder).wait(90) == 0
    assert folder.read_result() is None
    assert "Traceback" in folder.log(1).read_text()
    failure = folder.read_failure(1)
    assert (failure.kind, failure.retryable) == (kind, False)
    if where is not None:
        assert {problem.where for problem in failure.problems} == where


def test_a_plan_says_what_an_update_would_do(tiny_model, tmp_path):
    _, folder = tiny_assignment(tiny_model, tmp_path, job="plan-1", kind="plan")
    assert start(folder).wait(90) == 0
    assert folder.read_result()["tasks"][0]["name"] == "banking"
    assert Registry(tmp_path).versions("tiny") == []


def test_a_study_tries_its_settings_and_registers_nothing(tiny_model, tmp_path):
    tune = {
        "parameters": {"training.learning_rate": {"choice": [1e-3, 3e-3]}},
        "algorithm": "grid",
        "num_parallel": 1,
    }
    _, folder = tiny_assignment(
        tiny_model, tmp_path, job="study-1", kind="study", tasks=["banking", "home"], tune=tune
    )
    assert start(folder).wait(240) == 0
    assert folder.read_failure(1) is None
    result = folder.read_result()
    assert len(result["trials"]) == 2
    assert result["chosen"] is not None
    assert Path(result["page"]).is_file()
    assert Registry(tmp_path).versions("tiny") == []
    said = [line.message for line in lines_of(folder)]
    assert any(message.startswith("trial 1 done") for message in said)


def test_killed_it_goes_on_from_its_checkpoint_after_a_line_that_was_cut_off(tiny_model, tmp_path):
    _, folder = tiny_assignment(tiny_model, tmp_path, training=LONG | {"num_epochs": 60})
    first = start(folder)
    wait_for(lambda: len(checkpoints(tmp_path)) == 2, first)
    first.send_signal(signal.SIGKILL)
    first.wait()
    with folder.events.open("ab") as file:
        file.write(b'{"attempt": 1, "time": 17')
    folder.write_fence(2)
    assert start(folder, 2).wait(90) == 0
    found = lines_of(folder)
    assert [line.attempt for line in found] == sorted(line.attempt for line in found)
    (resumed,) = [line for line in found if line.message.startswith("going on")]
    assert resumed.attempt == 2
    assert (resumed.data["epoch"], resumed.data["step_in_epoch"]) > (0, 0)
    assert folder.read_result()["version"] == 1


def test_asked_to_stop_it_ends_at_once_and_leaves_its_checkpoints(tiny_model, tmp_path):
    _, folder = tiny_assignment(tiny_model, tmp_path, training=LONG)
    driver = start(folder)
    wait_for(lambda: checkpoints(tmp_path), driver)
    driver.send_signal(signal.SIGTERM)
    assert driver.wait(5) == 0
    assert folder.read_result() is None
    assert folder.read_failure(1) is None
    assert "asked to stop" in lines_of(folder)[-1].message
    assert checkpoints(tmp_path)


def test_it_ends_when_a_newer_attempt_may_act(tiny_model, tmp_path):
    _, folder = tiny_assignment(tiny_model, tmp_path, training=LONG)
    driver = start(folder)
    wait_for(lambda: is_training(folder), driver)
    folder.write_fence(2)
    assert driver.wait(10) == 0
    assert "2 may" in lines_of(folder)[-1].message


def test_an_older_attempt_does_not_begin(tiny_model, tmp_path):
    _, folder = tiny_assignment(tiny_model, tmp_path)
    folder.write_fence(2)
    assert start(folder, 1).wait(90) == 0
    assert lines_of(folder) == []
    assert folder.read_failure(1) is None


STARTER = """
import subprocess, sys
words = [sys.executable, "-m", "ratchet.service.driver", *sys.argv[1:]]
print(subprocess.Popen(words).pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("with_parent", [True, False])
def test_it_ends_with_the_process_that_started_it_only_where_asked(
    tiny_model, tmp_path, with_parent
):
    _, folder = tiny_assignment(tiny_model, tmp_path, training=LONG)
    options = ["--with-parent"] if with_parent else []
    command = [sys.executable, "-c", STARTER, str(folder.path), "1", *options]
    starter = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    driver = psutil.Process(int(starter.stdout.readline()))
    wait_for(lambda: is_training(folder), starter)
    starter.kill()
    starter.communicate()
    if with_parent:
        driver.wait(10)
        assert "is gone" in lines_of(folder)[-1].message
    else:
        with pytest.raises(psutil.TimeoutExpired):
            driver.wait(3)
        os.kill(driver.pid, signal.SIGTERM)
        driver.wait(10)


def test_a_folder_without_a_task_is_told(tmp_path):
    folder = JobFolder(tmp_path / "job")
    folder.path.mkdir()
    folder.write_fence(1)
    assert start(folder).wait(90) == 0
    assert folder.read_failure(1).kind == "spec"
