"""Every stack of the studies can be run on the stream that it is meant for."""

import subprocess
import sys
from pathlib import Path

import pytest

from ratchet.pipelines.compare.contender import contenders
from ratchet.pipelines.compare.design import Design, plan_runs

STUDIES = Path(__file__).resolve().parents[3] / "configs" / "studies"
STACKS = sorted(STUDIES.glob("stacks/*.yaml")) + sorted(STUDIES.glob("results/*.yaml"))


@pytest.mark.parametrize("stack", STACKS, ids=lambda path: path.stem)
def test_a_stack_of_the_studies_can_be_planned(stack):
    (run,) = plan_runs(STUDIES / "departments.yaml", contenders([str(stack)]), Design())
    assert run.problem is None
    assert run.method == stack.stem


def test_the_varied_streams_have_equally_many_rows(tmp_path):
    subprocess.run([sys.executable, str(STUDIES / "vary_data.py"), str(tmp_path)], check=True)
    specs = sorted(path.stem for path in tmp_path.glob("*.yaml"))
    assert specs == ["even", "long_tail", "redundant"]
    for folder in specs:
        files = list((tmp_path / folder).glob("*.jsonl"))
        rows = [path.read_text(encoding="utf-8").splitlines() for path in files]
        assert [len(lines) for lines in rows] == [72] * 5
        distinct = 18 if folder == "redundant" else 72
        assert [len(set(lines)) for lines in rows] == [distinct] * 5
        (run,) = plan_runs(tmp_path / f"{folder}.yaml", contenders(["finetune"]), Design())
        assert run.problem is None
