"""Studies over tiny tasks: a spec with a `tune` section, searched here or by the command line."""

import os
import subprocess
import sys
from pathlib import Path

from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.search.study_run import Request
from ratchet.pipelines.tuning.tuning import run_study
from tests.tiny import TASKS, write_task

GRID = {
    "parameters": {
        "training.learning_rate": {"log": [1e-4, 1e-2], "points": 2},
        "methods.ewc.strength": {"log": [1, 1e4], "points": 3},
    },
    "algorithm": "grid",
    "num_parallel": 2,
}


def raw_spec(model, folder, tune, **sections):
    """A spec over tiny tasks, as a file would hold it."""
    return {
        "lineage": "tiny",
        "model": {"name": str(model)},
        "tasks": [write_task(folder / "rows", name, labels) for name, labels in TASKS.items()],
        "methods": [{"type": "ewc"}],
        "training": {
            "num_epochs": 2,
            "learning_rate": 3e-3,
            "batch_size": 16,
            "max_length": 24,
            "precision": "fp32",
        },
        "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
        "tune": tune,
        **sections,
    }


def studied(raw, folder, must_exist=False):
    lines: list[str] = []
    request = Request(
        RawSpec(raw, folder), "spec.yaml", Home(folder / "home", None), None, must_exist
    )
    study, place = run_study(request, lines.append)
    return study, place, lines


def run_command(arguments, folder):
    environment = {**os.environ, "RATCHET_HOME": str(folder / "home")}
    return subprocess.Popen(
        [sys.executable, "-c", "from ratchet.service.cli import main; main()", *arguments],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended_trials(folder: Path) -> dict[str, float]:
    """When each ended trial was written."""
    found = folder.glob("home/studies/tiny/*/trials/*/trial.json")
    return {path.parent.name: path.stat().st_mtime for path in found}
