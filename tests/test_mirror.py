"""Covers no module: it holds the tests against the packages that they mirror.

A module is tested in the file of its name at its place below `tests/`, or in a file whose docstring
begins with `Covers` and names it: relative to the room that the file stands in, to the package, or
from the top.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pipelines", "service")


def modules():
    """The modules of both packages that hold code of ours, relative to the top."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {
        path.relative_to(ROOT)
        for path in paths
        if not path.name.startswith("__") and "migrations" not in path.parts
    }


def covered_names(path):
    """The names in the first paragraph of a test file that says what it covers."""
    first, *_ = (ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or "").split("\n\n")
    return re.findall(r"`([\w.]+)`", first) if first.startswith("Covers") else []


def found(test, name):
    """The module that a test file means by a name; None where there is none."""
    room = test.parent.relative_to(ROOT / "tests")
    inside = room.parts[:1] if room.parts[:1] and room.parts[0] in PACKAGES else ()
    below = Path(*name.split(".")).with_suffix(".py")
    places = [room / below, Path(*inside) / below, below]
    return next((place for place in places if place in modules()), None)


TESTS = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if covered_names(path))


@pytest.mark.parametrize("test", TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_a_file_says_that_it_covers_exists(test):
    assert [name for name in covered_names(test) if found(test, name) is None] == []


def test_every_module_has_a_test_file_of_its_name_or_one_that_says_so():
    own = {m for m in modules() if (ROOT / "tests" / m.parent / f"test_{m.stem}.py").is_file()}
    covered = {found(test, name) for test in TESTS for name in covered_names(test)}
    assert sorted(str(module) for module in modules() - own - covered) == []
