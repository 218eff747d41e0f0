"""The image's files: who it runs as, what it starts, and how it finds out that that works."""

import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
import yaml

from tests.deploy.files import DEPLOY, DOCKERFILE, ENTRYPOINT, ROLES, ROOT, SERVICES, copied_sources
from tests.waiting import free_port

HEALTHCHECK = DEPLOY / "docker" / "healthcheck.py"


@pytest.mark.parametrize("name", ["Dockerfile", "mlflow.Dockerfile"])
def test_an_image_ends_as_a_user_who_is_not_root(name):
    text = (DEPLOY / "docker" / name).read_text(encoding="utf-8")
    users = re.findall(r"^USER (\d+):(\d+)$", text, re.MULTILINE)
    assert users == [("10001", "10001")]
    assert "--uid 10001" in text
    after = text[text.index("USER ") :]
    assert "RUN " not in after
    assert "HEALTHCHECK" in after


def test_what_is_copied_exists_and_is_let_in():
    ignore = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").split()
    assert "pyproject.toml" in copied_sources()
    for source in copied_sources():
        assert (ROOT / source).exists()
        assert f"!{source}" in ignore


@pytest.mark.parametrize("name", ["Dockerfile", "mlflow.Dockerfile"])
def test_every_image_installs_what_the_constraints_name(name):
    text = (DEPLOY / "docker" / name).read_text(encoding="utf-8")
    ignore = (DEPLOY / "docker" / f"{name}.dockerignore").read_text(encoding="utf-8").split()
    installs = re.findall(r"^RUN pip install .*$", text, re.MULTILINE)
    assert installs
    assert all("torch==" in line or "-c " in line for line in installs)
    assert re.search(r"^COPY .*\bconstraints\.txt", text, re.MULTILINE)
    assert "!constraints.txt" in ignore


def copied(target):
    """Lay out below a folder what the build copies, links as links."""
    for source in copied_sources():
        place = target / source
        place.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, place, symlinks=True, ignore=skipped)
        else:
            shutil.copy(ROOT / source, place)
    return target


def test_no_link_of_what_is_copied_leads_out_of_it(tmp_path):
    links = [path for path in copied(tmp_path).rglob("*") if path.is_symlink()]
    assert tmp_path / "pipelines" / "spec" / "preset_files" in links
    for link in links:
        assert link.resolve().is_relative_to(tmp_path)
        assert link.exists(), link


def test_the_package_that_the_image_installs_holds_the_presets(tmp_path):
    from setuptools import find_namespace_packages

    config = tomllib.loads((copied(tmp_path) / "pyproject.toml").read_text(encoding="utf-8"))
    found = config["tool"]["setuptools"]["packages"]["find"]
    assert "ratchet.pipelines.spec.preset_files" in find_namespace_packages(str(tmp_path), **found)
    presets = {path.name for path in (ROOT / "configs" / "presets").glob("*.yaml")}
    assert presets
    assert {
        path.name for path in (tmp_path / "pipelines/spec/preset_files").glob("*.yaml")
    } == presets


def test_the_tag_of_the_manifests_names_the_release():
    release = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    kustomization = yaml.safe_load((DEPLOY / "kuberay" / "kustomization.yaml").read_text())
    (image,) = kustomization["images"]
    assert image["newTag"] == f"{release['project']['version']}-cpu"


def test_the_build_s_pytorch_is_that_of_the_constraints():
    (pinned,) = re.findall(r'"(torch==[^"]+)"', DOCKERFILE)
    assert pinned in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert re.search(r"^ARG ACCELERATOR=cpu$", DOCKERFILE, re.MULTILINE)


def started_by(role, tmp_path, *more, **variables):
    """The command that the entry point would become, from programs that only say their name."""
    for name in ("python", "ratchet", "ray"):
        program = tmp_path / name
        program.write_text(f'#!/bin/sh\necho {name} "$@"\n', encoding="utf-8")
        program.chmod(0o755)
    place = {"PATH": f"{tmp_path}:/bin:/usr/bin", "RATCHET_ROLE_FILE": str(tmp_path / "role")}
    done = subprocess.run(
        ["sh", str(ENTRYPOINT), role, *more],
        env=place | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout.split(), done.stderr


@pytest.mark.parametrize(
    ("role", "words"),
    [
        ("api", "python -P -m ratchet.service.api"),
        ("controller", "python -P -m ratchet.service.control"),
        ("router", "ratchet serve --all --host 0.0.0.0 --port 8000 --replicas 2"),
    ],
)
def test_each_part_of_the_service_is_started_by_its_name(role, words, tmp_path):
    more = ["--replicas", "2"] if role == "router" else []
    assert started_by(role, tmp_path, *more) == (0, words.split(), "")
    assert (tmp_path / "role").read_text(encoding="utf-8") == role


@pytest.mark.parametrize("role", ["ray-head", "ray-worker"])
def test_ray_knows_every_option_that_it_is_started_with(role, tmp_path):
    from ray.scripts.scripts import start

    more = SERVICES[role]["command"][1:]
    code, words, _ = started_by(role, tmp_path, *more, RAY_HEAD="ray-head:6379")
    assert code == 0
    assert words[:2] == ["ray", "start"]
    assert set(more) <= set(words)
    known = {name for parameter in start.params for name in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known
    assert ("--head" in words) == (role == "ray-head")


def test_a_worker_without_a_head_says_what_is_missing(tmp_path):
    code, _, said = started_by("ray-worker", tmp_path)
    assert code != 0
    assert "RAY_HEAD" in said


def test_anything_else_is_run_as_it_stands(tmp_path):
    code, words, _ = started_by("echo", tmp_path, "hello")
    assert (code, words) == (0, ["hello"])


def test_the_router_knows_the_options_that_it_is_started_with():
    from typer.testing import CliRunner

    from ratchet.service.cli.app import build_app

    shown = CliRunner().invoke(build_app(), ["serve", "--help"], env={"COLUMNS": "200"}).stdout
    assert {"--all", "--host", "--port", "--replicas"} <= set(re.findall(r"--[a-z]+", shown))


def check(tmp_path, role, **variables):
    (tmp_path / "role").write_text(role, encoding="utf-8")
    environment = {**os.environ, "RATCHET_ROLE_FILE": str(tmp_path / "role"), **variables}
    command = [sys.executable, str(HEALTHCHECK)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("role", ["api", "router", "controller"])
def test_a_part_that_does_not_answer_is_not_healthy(tmp_path, role):
    nobody = f"http://127.0.0.1:{free_port()}"
    done = check(tmp_path, role, RATCHET_HEALTH_API=nobody, RATCHET_HEALTH_ROUTER=nobody)
    assert done.returncode == 1
    assert nobody in done.stderr


@pytest.mark.slow
def test_the_api_is_healthy_and_says_that_no_controller_is_there(tmp_path):
    from tests.deploy.running import running_api

    with running_api(tmp_path) as url:
        assert check(tmp_path, "api", RATCHET_HEALTH_API=url).returncode == 0
        done = check(tmp_path, "controller", RATCHET_HEALTH_API=url)
        assert (done.returncode, "controller is not ready" in done.stderr) == (1, True)


def test_every_role_has_a_check():
    text = HEALTHCHECK.read_text(encoding="utf-8")
    assert [role for role in ROLES if f'"{role}"' not in text] == []
