"""Covers, beside `tracker`: `mlflow_client`, `sender`."""

import math
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from ratchet.pipelines.errors import NotFoundError, TrackingError
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.tracking.mlflow_client import default_tracking_uri, mlflow_client
from ratchet.pipelines.tracking.tracker import Tracker, flattened, git_commit, send_outbox
from tests.waiting import free_port, wait_for_url

SPEC = {
    "lineage": "intents",
    "training": {"num_epochs": 3},
    "methods": [{"type": "ewc", "decay": 1}],
}
MATRIX = [[0.9, None], [0.8, 0.95]]


def begin(tracker):
    tracker.start("intents", "intents-1", SPEC, "lineage: intents\n")


def learn(tracker, task, stage, accuracies):
    tracker.task_started(task, {"num_train": 100})
    for step in range(1, 6):
        tracker.log_step(task, step, {"loss": 1.0 / step, "bad": math.nan})
    tracker.log_phases(task, {"training": 2.5}, 1_000_000)
    tracker.task_finished(task, {"learned": accuracies[task]})
    tracker.log_accuracies(stage, accuracies)


def track_update(folder, uri):
    with Tracker(folder, uri) as tracker:
        begin(tracker)
        learn(tracker, "banking", 1, {"banking": 0.9})
        learn(tracker, "travel", 2, {"banking": 0.8, "travel": 0.95})
        tracker.log_matrix(MATRIX, ["banking", "travel"])
        (folder / "manifest.json").write_text("{}")
        tracker.log_file(folder / "manifest.json", "version")
        tracker.set_tags({"ratchet.version": "1"})
        tracker.finish({"average_accuracy": 0.875, "forward_transfer": None})
    return tracker


def fail_while_tracking(folder, uri, error):
    with Tracker(folder, uri) as tracker:
        begin(tracker)
        raise error


def contents(uri, lineage="intents"):
    """Everything that MLflow has of a lineage's runs, by run name."""
    with mlflow_client(uri) as client:
        experiment = client.get_experiment_by_name(lineage)
        runs = client.search_runs([experiment.experiment_id])
        found = {}
        for run in runs:
            history = {
                key: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, key)]
                for key in run.data.metrics
            }
            artifacts = [
                item.path
                for folder in (None, "version")
                for item in client.list_artifacts(run.info.run_id, folder)
                if not item.is_dir
            ]
            assert run.info.run_name not in found, "one MLflow run a name"
            found[run.info.run_name] = (run, history, artifacts)
    return found


def check_complete(uri, key):
    found = contents(uri)
    assert set(found) == {"intents-1", "banking", "travel"}
    run, history, artifacts = found["intents-1"]
    assert run.info.status == "FINISHED"
    assert run.data.params["training.num_epochs"] == "3"
    assert run.data.params["methods.ewc.decay"] == "1"
    assert run.data.tags["ratchet.run"] == key
    assert history["accuracy/banking"] == [(1, 0.9), (2, 0.8)]
    assert history["accuracy/travel"] == [(2, 0.95)]
    assert history["average_accuracy"] == [(0, 0.875)]
    assert "forward_transfer" not in history
    assert sorted(artifacts) == [
        "accuracy_matrix.json",
        "accuracy_matrix.png",
        "spec.yaml",
        "version/manifest.json",
    ]
    child, curves, _ = found["banking"]
    assert child.data.tags["mlflow.parentRunId"] == run.info.run_id
    assert child.info.status == "FINISHED"
    assert child.data.params == {"num_train": "100"}
    assert curves["loss"] == [(step, 1.0 / step) for step in range(1, 6)]
    assert curves["seconds/training"] == [(0, 2.5)]
    assert curves["peak_memory_bytes"] == [(0, 1e6)]
    assert "bad" not in curves


def test_an_update_is_tracked_whole(tmp_path, capfd):
    uri = default_tracking_uri(tmp_path)
    tracker = track_update(tmp_path / "run", uri)
    check_complete(uri, tracker.key)
    assert not tracker.away
    assert (tmp_path / "mlartifacts").is_dir()
    assert capfd.readouterr().out == ""


def test_what_is_known_later_becomes_a_tag(tmp_path):
    uri = default_tracking_uri(tmp_path)
    track_update(tmp_path / "run", uri)
    assert contents(uri)["intents-1"][0].data.tags["ratchet.version"] == "1"


def test_the_matrix_is_a_table_that_mlflow_reads(tmp_path, monkeypatch):
    uri = default_tracking_uri(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # `load_table` looks for runs there
    track_update(tmp_path / "run", uri)
    run, _, _ = contents(uri)["intents-1"]
    with mlflow_client(uri) as client:
        experiment = run.info.experiment_id
        table = client.load_table(experiment, "accuracy_matrix.json", [run.info.run_id])
    assert list(table.columns) == ["after", "banking", "travel"]
    assert math.isnan(table["travel"][0])
    assert table["banking"].tolist() == [0.9, 0.8]


def test_sending_again_changes_nothing_even_without_the_marks(tmp_path):
    uri = default_tracking_uri(tmp_path)
    tracker = track_update(tmp_path / "run", uri)
    assert send_outbox(tmp_path / "run", uri) == 0
    (tmp_path / "run" / "outbox.sent.json").unlink()
    assert send_outbox(tmp_path / "run", uri) > 0
    check_complete(uri, tracker.key)


def test_an_absent_server_costs_seconds_and_one_warning(tmp_path, caplog):
    started = time.monotonic()
    tracker = track_update(tmp_path / "run", "http://127.0.0.1:9")
    assert time.monotonic() - started < 30
    assert tracker.away
    warnings = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert len(warnings) == 1
    assert "MLflow is away" in warnings[0]
    assert "ratchet track --send" in warnings[0]
    with pytest.raises(TrackingError, match=r"127\.0\.0\.1:9"):
        send_outbox(tmp_path / "run", "http://127.0.0.1:9")
    uri = default_tracking_uri(tmp_path)
    assert send_outbox(tmp_path / "run", uri) > 0
    check_complete(uri, tracker.key)


def test_a_server_that_never_answers_costs_seconds(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        tracker = Tracker(tmp_path / "run", f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin(tracker)
        assert time.monotonic() - started < 15
    assert tracker.away


def test_a_resumed_update_goes_on_in_the_same_run_without_repeating_steps(tmp_path):
    uri = default_tracking_uri(tmp_path)
    first = Tracker(tmp_path / "run", uri)
    begin(first)
    first.task_started("banking", {"num_train": 100})
    for step in (1, 2, 3):
        first.log_step("banking", step, {"loss": 1.0 / step})
    # The process is killed here; the checkpoint is from step 1.
    second = Tracker(tmp_path / "run", uri)
    begin(second)
    second.task_started("banking", {"num_train": 100})
    for step in (2, 3, 4):
        second.log_step("banking", step, {"loss": 1.0 / step})
    second.finish()
    found = contents(uri)
    assert second.key == first.key
    assert set(found) == {"intents-1", "banking"}
    assert found["banking"][1]["loss"] == [(1, 1.0), (2, 1 / 2), (3, 1 / 3), (4, 1 / 4)]


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError, "FAILED"), (KeyboardInterrupt, "KILLED")]
)
def test_an_update_that_raises_is_marked(tmp_path, error, status):
    uri = default_tracking_uri(tmp_path)
    with pytest.raises(error):
        fail_while_tracking(tmp_path / "run", uri, error)
    assert contents(uri)["intents-1"][0].info.status == status


def test_an_event_that_mlflow_refuses_does_not_hold_up_the_others(tmp_path, caplog):
    uri = default_tracking_uri(tmp_path)
    with Tracker(tmp_path / "run", uri) as tracker:
        begin(tracker)
        tracker.task_started("banking", {"x" * 300: 1})
        tracker.finish({"average_accuracy": 0.5})
    assert "MLflow refuses a tracking event of kind params" in caplog.text
    assert contents(uri)["intents-1"][1]["average_accuracy"] == [(0, 0.5)]


def test_an_artifact_that_is_gone_is_reported_and_the_rest_is_sent(tmp_path, caplog):
    uri = default_tracking_uri(tmp_path)
    with Tracker(tmp_path / "run", uri) as tracker:
        begin(tracker)
        tracker.log_file(tmp_path / "nowhere.html")
        tracker.finish()
    assert "nowhere.html is gone" in caplog.text
    assert contents(uri)["intents-1"][0].info.status == "FINISHED"


def test_names_that_mlflow_does_not_take_are_mended(tmp_path):
    uri = default_tracking_uri(tmp_path)
    with Tracker(tmp_path / "run", uri) as tracker:
        begin(tracker)
        tracker.log_accuracies(1, {"résumé (2)": 0.5})
        tracker.finish()
    assert contents(uri)["intents-1"][1]["accuracy/r_sum_ _2_"] == [(1, 0.5)]


def test_without_a_store_everything_waits_in_the_outbox(tmp_path):
    tracker = track_update(tmp_path / "run", None)
    uri = default_tracking_uri(tmp_path)
    assert send_outbox(tmp_path / "run", uri) > 0
    check_complete(uri, tracker.key)


def test_a_folder_without_an_outbox_is_said(tmp_path):
    with pytest.raises(NotFoundError, match=r"no outbox\.jsonl here"):
        send_outbox(tmp_path, default_tracking_uri(tmp_path))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ({}, {}),
        ({"a": {"b": {"c": 1}}, "d": None}, {"a.b.c": "1", "d": "None"}),
        (
            {"methods": [{"type": "ewc", "decay": 1}]},
            {"methods.ewc.type": "ewc", "methods.ewc.decay": "1"},
        ),
        ({"tasks": [{"name": "x"}]}, {"tasks.0.name": "x"}),
        ({"layers": (0, 3)}, {"layers": "(0, 3)"}),
    ],
)
def test_parameters_are_flattened(values, flat):
    assert flattened(values) == flat


def test_the_commit_of_a_folder(tmp_path):
    assert git_commit(tmp_path) is None
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a"}
    environment = {**os.environ, **who, "GIT_COMMITTER_EMAIL": "a@b"}
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "Begin"]):
        subprocess.run(["git", "-C", tmp_path, *command], check=True, env=environment)
    commit = git_commit(tmp_path)
    assert len(commit) == 40
    assert set(commit) <= set("0123456789abcdef")


@contextmanager
def server(folder, port):
    command = [
        *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)),
        *("--host", "127.0.0.1", "--backend-store-uri", default_tracking_uri(folder)),
        *("--artifacts-destination", str(folder / "artifacts")),
    ]
    environment = {
        **os.environ,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    with (folder / "server.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        )
    try:
        wait_for_url(f"http://127.0.0.1:{port}/health", process)
        yield
    finally:
        os.killpg(process.pid, 9)
        process.wait()


@pytest.mark.slow
def test_a_server_that_dies_in_the_middle_loses_nothing(tmp_path, caplog):
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    folder = tmp_path / "run"
    registry = Registry(tmp_path / "home", uri)
    number = registry.next_number("intents")
    (registry.path("intents", number) / "manifest.json").write_text("{}")
    with Tracker(folder, uri) as tracker:
        with server(tmp_path, port):
            begin(tracker)
            learn(tracker, "banking", 1, {"banking": 0.9})
            assert not tracker.away
        learn(tracker, "travel", 2, {"banking": 0.8, "travel": 0.95})
        assert tracker.away
        tracker.log_matrix(MATRIX, ["banking", "travel"])
        tracker.log_file(registry.path("intents", number) / "manifest.json", "version")
        tracker.finish({"average_accuracy": 0.875})
        registry.register("intents", number, {"average_accuracy": 0.875}, tracker.key)
        registry.promote("intents", number)
    assert registry.champion("intents") == number
    with server(tmp_path, port):
        assert send_outbox(folder, uri) > 0
        assert send_outbox(folder, uri) == 0
        check_complete(uri, tracker.key)
        registry.mirror("intents")
        with mlflow_client(uri) as client:
            model = client.get_model_version_by_alias("intents", "champion")
        assert model.source.startswith("runs:/")
        assert model.tags["ratchet.version"] == str(number)
        unsent = registry.next_number("intents")
        (registry.path("intents", unsent) / "manifest.json").write_text("{}")
        registry.register("intents", unsent, {}, "a run that no server has")
        with pytest.raises(TrackingError, match="ratchet track --send"):
            registry.mirror("intents")
