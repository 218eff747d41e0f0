import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_a_wheel_holds_what_is_read_at_run_time(tmp_path):
    sources = tmp_path / "sources"  # setuptools leaves a build folder beside what it builds
    for folder in ("ratchet", "pipelines", "service", "configs/presets"):
        shutil.copytree(ROOT / folder, sources / folder, symlinks=True)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, sources)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-q", "-w", str(tmp_path), str(sources)], check=True)
    [wheel] = tmp_path.glob("ratchet_continual-*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    presets = {path.name for path in (ROOT / "configs" / "presets").glob("*.yaml")}
    assert presets
    assert {f"ratchet/pipelines/spec/preset_files/{name}" for name in presets} <= names
    assert "ratchet/pipelines/spec/example_spec.yaml" in names
    assert "ratchet/pipelines/report/report.html.j2" in names
    assert {f"ratchet/pipelines/pages/{name}" for name in ("page.css", "charts.css")} <= names
    assert not [name for name in names if name.startswith(("pipelines/", "service/"))]
