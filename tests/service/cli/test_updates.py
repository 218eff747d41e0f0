"""Covers, beside `updates`: `app`, `failures`, `session`, `comparing`."""

import json
import signal
import subprocess
import sys

import pytest
import yaml
from typer.testing import CliRunner

from ratchet.service.cli.app import build_app
from tests.tiny import TASKS, write_task


def call(*arguments):
    return CliRunner().invoke(build_app(), [str(argument) for argument in arguments])


def write_spec(folder, model, **sections):
    tasks = [write_task(folder / "data", name, TASKS[name]) for name in ("banking", "home")]
    training = {"num_epochs": 2, "learning_rate": 3e-3, "batch_size": 16, "max_length": 24}
    spec = {
        "lineage": "tiny",
        "model": {"name": str(model)},
        "tasks": tasks,
        "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
        "training": training,
    }
    path = folder / "spec.yaml"
    path.write_text(yaml.safe_dump(spec | sections), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def taught(tiny_model, tmp_path_factory):
    """The home after one update, its spec, and the result that --json printed."""
    folder = tmp_path_factory.mktemp("taught")
    spec = write_spec(folder, tiny_model)
    done = call("run", spec, "--home", folder / "home", "--json")
    assert done.exit_code == 0, done.stderr
    return folder / "home", spec, done


def test_json_prints_the_result_object_alone_on_stdout(taught):
    home, _, done = taught
    result = json.loads(done.stdout)
    assert result["lineage"] == "tiny"
    assert result["version"] == 1
    assert result["promoted"] is True
    assert result["tasks"] == ["banking", "home"]
    assert len(result["accuracy_matrix"]) == 2
    assert {"average_accuracy", "forgetting"} <= result["metrics"].keys()
    assert result["report"] == str(home / "versions/tiny/1/report.html")


def test_progress_goes_to_stderr(taught):
    _, _, done = taught
    assert "task 1/2 banking" in done.stderr
    assert "task 2/2 home · learned in" in done.stderr


def test_versions_lists_what_was_taught(taught):
    home, _, _ = taught
    listed = json.loads(call("versions", "tiny", "--home", home, "--json").stdout)
    [row] = listed["versions"]
    assert row["version"] == 1
    assert row["parent"] is None
    assert row["tasks"] == ["banking", "home"]
    assert row["aliases"] == ["champion"]
    table = call("versions", "tiny", "--home", home).stdout
    assert "banking, home" in table
    assert "champion" in table


def test_versions_without_a_lineage_lists_the_lineages(taught):
    home, _, _ = taught
    listed = json.loads(call("versions", "--home", home, "--json").stdout)
    assert listed == {
        "lineages": [{"lineage": "tiny", "versions": [1], "champion": 1, "challenger": None}]
    }


def test_a_refused_version_ends_with_4_and_can_be_promoted_by_hand(taught, tiny_model, tmp_path):
    spec = write_spec(tmp_path, tiny_model, gate={"min_accuracy": 1.0})
    home = tmp_path / "home"
    refused = call("run", spec, "--home", home, "--set", "training.num_epochs=1")
    assert refused.exit_code == 4
    assert "refused" in refused.stdout
    assert "ratchet promote tiny@1" in refused.stdout
    promoted = call("promote", "tiny", "--home", home, "--json")
    assert json.loads(promoted.stdout) == {"lineage": "tiny", "champion": 1, "previous": None}
    rolled = call("rollback", "tiny", "--home", home)
    assert rolled.exit_code == 3


def test_workers_in_this_process_need_no_ray(tiny_model, tmp_path):
    spec = write_spec(tmp_path, tiny_model)
    script = (
        "import sys\n"
        f"sys.argv = ['ratchet', 'run', {str(spec)!r}, '--home', {str(tmp_path / 'home')!r}]\n"
        "from ratchet.service.cli import main\n"
        "try: main()\n"
        "except SystemExit as end: assert not end.code\n"
        "print('ray' in sys.modules, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "False True", done.stderr


def test_set_and_lineage_change_the_spec(taught):
    _, spec, _ = taught
    wrong = call("run", spec, "--set", "training.sed=1", "--lineage", "no spaces", "--json")
    assert wrong.exit_code == 2
    problems = json.loads(wrong.stderr)["error"]["problems"]
    assert [problem["where"] for problem in problems] == ["lineage", "training.sed"]
    assert problems[1]["hint"] == "Did you mean 'seed'?"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["run"], 2),
        (["run", "missing.yaml"], 2),
        (["frobnicate"], 2),
        (["versions", "nothing"], 3),
        (["promote", "nothing@3"], 3),
        (["rollback", "nothing"], 3),
    ],
)
def test_failures_end_with_their_exit_code_and_no_traceback(arguments, code, tmp_path):
    done = call(*arguments, *(["--home", tmp_path] if len(arguments) > 1 else []))
    assert done.exit_code == code
    assert "Traceback" not in done.output


def test_brackets_in_an_error_are_shown_as_they_are(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_text("lineage: '[/bold]'\nmodel: {name: '[red]x'}\ntasks: [1]\n", encoding="utf-8")
    done = call("run", path)
    assert done.exit_code == 2
    assert "[/bold]" in done.stderr
    assert "tasks[0]" in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_where_an_error_arose(tmp_path):
    done = call("run", tmp_path / "missing.yaml", "--debug")
    assert done.exit_code == 2
    assert "Traceback" in done.stderr


def test_an_interrupt_ends_with_5_and_says_that_the_run_can_go_on(tiny_model, tmp_path):
    spec = write_spec(tmp_path, tiny_model, training={"num_epochs": 100_000, "max_length": 24})
    # A shell's background job ignores the signal, and so would whatever it starts.
    listening = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    script = f"{listening}; from ratchet.service.cli import main; main()"
    command = [sys.executable, "-c", script, "run", str(spec), "--home", str(tmp_path / "home")]
    seen = ""
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            seen += line
            if "starting" in line:
                process.send_signal(signal.SIGINT)
    assert process.returncode == 5
    assert "Cancelled" in seen
    assert "goes on from the last checkpoint" in seen
    assert "Traceback" not in seen
