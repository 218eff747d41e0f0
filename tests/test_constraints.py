"""What is installed is what constraints.txt names, and it names everything that is needed."""

import os
import re
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires, version
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OF_A_BUILD = ("cuda", "nvidia", "triton")
"""How the names begin that only a CUDA build of PyTorch needs; it names their versions itself."""

pytestmark = pytest.mark.skipif(
    "NEWEST_LIBRARIES" in os.environ,
    reason="the newest allowed versions are installed on purpose: make test-newest",
)


def constraints():
    """Versions by name, as the file has them."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {canonicalize_name(name): wanted for name, wanted in pairs}


def installed(name):
    """The version without its local label (+cpu), or None."""
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return None


def needed(lines, extras=("",), seen=None):
    """The names behind requirements, and behind those of what they install here, all the way."""
    seen = set() if seen is None else seen
    for need in map(Requirement, lines):
        wanted = need.marker is None or any(need.marker.evaluate({"extra": e}) for e in extras)
        key = canonicalize_name(need.name), *sorted(need.extras)
        if wanted and key not in seen and not key[0].startswith(OF_A_BUILD):
            seen.add(key)
            if installed(need.name):
                needed(requires(need.name) or (), ("", *need.extras), seen)
    return seen


def moved(wanted):
    """What is installed in another version than wanted, in words."""
    found = {name: installed(name) for name in wanted}
    return [
        f"{name} moved from {wanted[name]} to {found[name]}"
        for name in sorted(wanted)
        if found[name] not in (None, wanted[name])
    ]


def test_the_libraries_are_those_of_the_constraints():
    words = moved(constraints())
    assert not words, (
        f"{'; '.join(words)}. The tests hold for the versions of constraints.txt; back to "
        "them: pip install -c constraints.txt -e '.[quickstart,huggingface,s3,dev]'. On to the "
        "newest allowed: make constraints, and make test"
    )


def test_a_library_that_moved_is_named_with_both_versions():
    wanted = {"pytest": "0.0.1", "torch": installed("torch"), "not-installed-anywhere": "1.0"}
    assert moved(wanted) == [f"pytest moved from 0.0.1 to {version('pytest')}"]


@pytest.mark.skipif(
    (sys.platform, *sys.version_info[:2]) != ("linux", 3, 11),
    reason="the file is written on Linux with Python 3.11; elsewhere libraries need other ones",
)
def test_everything_that_the_project_needs_is_constrained():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = [*project["dependencies"], *chain(*project["optional-dependencies"].values())]
    names = {name for name, *_ in needed(direct)}
    missing = names - set(constraints()) - {"pip"}
    assert not missing, f"not in constraints.txt: {sorted(missing)}; run `make constraints`"
    assert len(names) > 100


def test_the_constraints_fit_every_build_of_pytorch_and_name_no_place():
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!]*", line) for line in lines)
    assert "torch" in constraints()


def test_every_install_but_that_of_the_newest_is_constrained():
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").splitlines()
    free = [line for line in lines if "pip install" in line and "-c constraints.txt" not in line]
    assert len(free) == 1
    assert "$(NEWEST)/bin/python" in free[0]
    rules = [line for line in lines if line.startswith("$(VENV)/")]
    assert rules
    assert all("constraints.txt" in rule.split() for rule in rules)
