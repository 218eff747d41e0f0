"""What is built of the project, and whether it works from there, whatever a user's folder holds."""

import json
import os
import shutil
import signal
import site
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from ratchet.service.up.layout import Layout, free_port
from ratchet.service.up.stray_processes import end_stray_processes
from tests.tiny import TASKS, write_task

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
PACKAGES = ("ratchet", "pipelines", "service")
SHADOWED = ("queue", "secrets", "statistics", "torch", "types", "uvicorn")
SECONDS = 600


def build(folder):
    """The wheel that is made of the source distribution that is made of the project."""
    sources = folder / "sources"  # setuptools leaves a build folder beside what it builds
    for place in (*PACKAGES, "configs/presets"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / place, sources / place, symlinks=True, ignore=ignored)
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, sources)
    code = f"from setuptools import build_meta; build_meta.build_sdist({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=sources, check=True, capture_output=True)
    [sdist] = folder.glob("ratchet_continual-*.tar.gz")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "-q", "-w", str(folder), str(sdist)], check=True)
    [wheel] = folder.glob("ratchet_continual-*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    return build(tmp_path_factory.mktemp("wheel"))


def test_a_wheel_holds_all_of_the_package_and_nothing_else(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    presets = {path.name for path in (ROOT / "configs" / "presets").glob("*.yaml")}
    own = files_of("pipelines") | files_of("service")
    assert len(own) > 400
    assert len(presets) > 20
    assert {name for name in names if not name.startswith("ratchet_continual-")} == {
        "ratchet/__init__.py",
        "ratchet/py.typed",
        *(f"ratchet/{name}" for name in own),
        *(f"ratchet/pipelines/spec/preset_files/{name}" for name in presets),
    }


def files_of(package):
    """The files of a package, by their names in the project; without links to folders elsewhere."""
    return {
        str(path.relative_to(ROOT))
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The programs of an environment with the wheel, and with all that the tests run on but us."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own = subprocess.run([python, "-c", where], capture_output=True, text=True, check=True)
    # A folder named like this is searched, but no .pth file in it is read: no editable install.
    (Path(own.stdout.strip()) / "libraries.pth").write_text(
        "\n".join(site.getsitepackages()), encoding="utf-8"
    )
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q"]
    subprocess.run([*pip, "--no-deps", "--no-index", str(wheel)], check=True, env=environment())
    ray = folder / "bin" / "ray"
    ray.write_text(f"#!{python}\nfrom ray.scripts.scripts import main\nmain()\n", encoding="utf-8")
    ray.chmod(0o755)
    return folder / "bin"


def environment():
    """Variables without those that would lead to this checkout or to somebody's service."""
    left_out = ("PYTHON", "RATCHET_", "RAY_")
    return {name: own for name, own in os.environ.items() if not name.startswith(left_out)}


def foreign(folder, *names):
    """Packages of the user's own, which nothing of ours may import."""
    for name in names:
        (folder / name).mkdir(parents=True)
        (folder / name / "__init__.py").write_text(
            f"raise ImportError('the {name} of the user')", encoding="utf-8"
        )
    return folder


def write_spec(folder, model, task, lineage, num_workers):
    """A spec of one task, teaching which takes about a second."""
    content = {
        "lineage": lineage,
        "model": {"name": str(model)},
        "tasks": [write_task(folder / "data", task, TASKS[task])],
        "methods": [{"type": "lora", "rank": 4, "per_task": True}],
        "scaling": {"num_workers": num_workers},
        "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
        "training": {
            "num_epochs": 2,
            "learning_rate": 3e-3,
            "batch_size": 16,
            "max_length": 24,
            "precision": "fp32",
        },
    }
    path = folder / f"{task}.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def run(command, folder):
    """What a command that went well said."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def crowded(tmp_path):
    """A folder full of names that something of ours or of the libraries' imports."""
    return foreign(tmp_path / "crowded", *PACKAGES, *SHADOWED)


@pytest.fixture
def model(tmp_path, tiny_model):
    return shutil.copytree(tiny_model, tmp_path / "model")


def test_an_installed_ratchet_teaches_and_compares(programs, crowded, model, tmp_path):
    ratchet = programs / "ratchet"
    assert run([ratchet, "--version"], crowded).startswith("ratchet ")
    spec = write_spec(tmp_path, model, "banking", "taught", 2)
    home = ["--home", tmp_path / "home", "--json"]
    result = json.loads(run([ratchet, "run", spec, *home], crowded).splitlines()[-1])
    assert (result["lineage"], result["version"]) == ("taught", 1)

    spec = write_spec(tmp_path, model, "home", "compared", 0)
    options = ["--methods", "finetune,replay", "--seeds", "1", "--out", tmp_path / "comparison"]
    found = json.loads(run([ratchet, "compare", spec, *options, *home], crowded))
    assert [one["status"] for one in found["runs"]] == ["done", "done"]


ASK = """
import sys
from ratchet.service.client import Client
with Client(home=sys.argv[1]) as client:
    job = client.submit(sys.argv[2])
    ended = client.wait(job.id, timeout=float(sys.argv[3]))
    print(ended.status, ended.promotion.decision)
    print(*[version.number for version in client.versions("served")])
"""


def test_an_installed_service_is_asked_by_its_client(programs, crowded, model, tmp_path):
    spec, home = write_spec(tmp_path, model, "banking", "served", 0), tmp_path / "home"
    ports = [f"--{name}-port={free_port()}" for name in ("api", "router", "mlflow", "ray")]
    ports.append(f"--dashboard-port={free_port()}")
    command = [programs / "ratchet", "up", "--json", "--home", home, "--data-root", tmp_path]
    with (tmp_path / "up.log").open("w+", encoding="utf-8") as log:
        up = subprocess.Popen(
            [str(word) for word in [*command, *ports, "--no-mlflow", "--no-router"]],
            cwd=crowded,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        try:
            assert up.stdout is not None
            assert up.stdout.readline(), (tmp_path / "up.log").read_text(encoding="utf-8")
            asked = [programs / "python", "-P", "-c", ASK, home, spec, SECONDS]
            assert run(asked, crowded).split() == ["succeeded", "promoted", "1"]
        finally:
            up.send_signal(signal.SIGTERM)
            up.communicate(timeout=SECONDS)
            end_stray_processes(Layout(home.resolve()).mark, {}, 5)
    assert up.returncode == 0, (tmp_path / "up.log").read_text(encoding="utf-8")
