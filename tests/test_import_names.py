"""What is imported and installed has one name; by another a module would be loaded twice."""

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest

from ratchet import DISTRIBUTION

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("folder", ["pipelines", "service"])
def test_a_folder_of_the_project_is_no_package_of_its_own(folder):
    for words in (["-c", f"import {folder}.errors"], ["-m", f"{folder}.errors"]):
        done = subprocess.run(
            [sys.executable, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 1
        assert f"import ratchet.{folder}, not {folder}" in done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "import pipelines",
        "import service.client",
        "from pipelines.spec import changes",
        "from service import client",
    ],
)
@pytest.mark.parametrize("place", ["pipelines/a.py", "service/a.py", "tests/a.py", "configs/a.py"])
def test_lint_refuses_the_old_names(line, place):
    ruff = shutil.which("ruff", path=str(Path(sys.executable).parent))
    assert ruff, "ruff is installed with the extra dev"
    command = [ruff, "check", "--select", "TID251", "--stdin-filename", place, "-"]
    done = subprocess.run(
        command, cwd=ROOT, input=f"{line}\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "TID251" in done.stdout


def test_the_distribution_is_asked_for_by_its_name():
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    assert project["name"] == DISTRIBUTION
    assert requires(DISTRIBUTION)
    command = [sys.executable, "-m", "ratchet.service.cli", "--version"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert said == f"ratchet {version(DISTRIBUTION)}\n"
