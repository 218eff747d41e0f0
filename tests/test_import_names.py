"""Each module has one name: by another it would be loaded twice, with classes of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

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
