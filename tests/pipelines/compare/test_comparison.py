"""Covers, beside `comparison`: `runner`, `single_run`."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from ratchet.pipelines.compare.comparison import Options, compare, failures
from ratchet.pipelines.compare.design import Design
from tests.service.cli.test_updates import write_spec
from tests.waiting import wait_for

ROOT = Path(__file__).parents[3]
CONSTANT = {
    "training": {"num_epochs": 2, "learning_rate": 1e-3, "batch_size": 16, "max_length": 24}
}


def stack_file(folder, name, methods, **training):
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump({"methods": methods, "training": training}))
    return str(path)


@pytest.mark.slow
def test_a_comparison_that_is_killed_goes_on_without_repeating_what_is_done(tiny_model, tmp_path):
    spec = write_spec(tmp_path, tiny_model, **CONSTANT)
    slow = {"num_epochs": 12, "checkpoint_every_steps": 1}
    names = ["finetune", stack_file(tmp_path, "slow", [{"type": "ewc"}], **slow)]
    out = tmp_path / "out"
    code = "from ratchet.service.cli import main; main()"
    options = ["--methods", ",".join(names), "--seeds", "2", "--jobs", "1", "--out", str(out)]
    process = subprocess.Popen(
        [sys.executable, "-c", code, "compare", str(spec), *options],
        cwd=ROOT,
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    first = out / "runs" / "finetune.seed_0" / "result.json"
    second = out / "runs" / "slow.seed_0" / "home"
    wait_for(lambda: any(second.rglob("stage_000_step_000000[2-9]")), process)
    written = first.stat().st_mtime_ns
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert json.loads((out / "comparison.json").read_text())["num_done"] == 1
    lines = []
    found = compare(spec, names, Design(num_seeds=2), out, Options(num_jobs=2), lines.append)
    assert first.stat().st_mtime_ns == written
    assert "finetune.seed_0: done before, not repeated" in lines
    assert any(line.startswith("slow.seed_0: goes on after 0 stages") for line in lines)
    assert found["num_done"] == found["num_runs"] == 4
    assert failures(found) == []
    assert json.loads((out / "comparison.json").read_text())["rows"] == found["rows"]
    assert not second.exists()  # the weights go, the report stays
    for run in found["runs"]:
        assert (out / run["report"]).is_file()
        assert set(run["costs"]) == {"banking", "home"}
    by_name = {row["method"]: row for row in found["rows"]}
    assert len(by_name["slow"]["metrics"]["average_accuracy"]["values"]) == 2
    assert by_name["slow"]["costs"]["bytes_added"]["mean"] > 0


@pytest.mark.slow
def test_a_run_that_diverges_is_a_row_and_the_others_go_on(tiny_model, tmp_path):
    spec = write_spec(tmp_path, tiny_model, **CONSTANT)
    wild = stack_file(tmp_path, "wild", [], learning_rate=1e38, max_grad_norm=None)
    lines = []
    arguments = (spec, [wild, "finetune"], Design(), tmp_path / "out", Options(num_jobs=1))
    found = compare(*arguments, lines.append)
    assert failures(found) == ["wild.seed_0"]
    by_name = {row["method"]: row for row in found["rows"]}
    assert by_name["finetune"]["num_done"] == 1
    assert by_name["wild"]["num_done"] == 0
    assert "DivergedError: task 'banking', step" in by_name["wild"]["errors"][0]
    assert "**wild** failed" in (tmp_path / "out" / "comparison.md").read_text()
    again = compare(*arguments, lines.append)
    assert "wild.seed_0: failed before, not repeated" in lines
    assert again["rows"] == found["rows"]
