"""What the documents say of the project's files, modules and layers is so."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    ROOT / "CONTRIBUTING.md",
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "deploy").rglob("*.md")),
    *sorted((ROOT / "configs").rglob("*.md")),
]
FOLDERS = ("configs", "deploy", "docs", "pipelines", "ratchet", "service", "tests")
PACKAGES = ("", "pipelines/", "service/")
OTHERS = {
    "deploy/compose/.env",  # written by a user
    "deploy/compose/ray_token",
    "deploy/ratchet-api",  # what kubectl calls a deployment
}
QUOTED = re.compile(r"`([\w./-]+)`")
PATH = re.compile(rf"(?<![\w./:-])(?:{'|'.join(FOLDERS)})/[\w./-]*[\w/]")
MODULE = re.compile(r"(?<![\w./-])(?:ratchet\.(?:pipelines|service)|tests)(?:\.\w+)+")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def text_of(document):
    return document.read_text(encoding="utf-8")


def named_paths(text):
    """Paths that begin with a folder of the project, and whatever is quoted as a Python file."""
    quoted = {word for word in QUOTED.findall(text) if word.endswith(".py")}
    return set(PATH.findall(text)) | quoted


def stands(path):
    """Whether a file or folder is there; one of a package may be named from the package on."""
    return any((ROOT / f"{package}{path}").exists() for package in PACKAGES)


def stands_as_module(name):
    """Whether a module is there, or a module that says the last part of the name."""
    place = ROOT.joinpath(*name.split("."))
    if place.is_dir() or place.with_suffix(".py").is_file():
        return True
    parent = place.parent
    source = parent / "__init__.py" if parent.is_dir() else parent.with_suffix(".py")
    return source.is_file() and place.name in text_of(source)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_modules_that_a_document_names_are_there(document):
    text = text_of(document)
    lost = [path for path in named_paths(text) - OTHERS if not stands(path)]
    lost += [name for name in MODULE.findall(text) if not stands_as_module(name)]
    lost += [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    assert not lost


def test_rooms_in_the_architecture_are_there():
    """Also those that are named by the folder alone, `training/`, or by a file in it."""
    words = QUOTED.findall(text_of(ROOT / "docs" / "architecture.md"))
    assert len(words) > 100
    assert not [word for word in words if re.search(r"/|\.py$", word) and not stands(word)]


@pytest.mark.parametrize("document", ["README.md", "docs/architecture.md"])
def test_the_import_rule_is_the_one_that_is_checked(document):
    words = " ".join(text_of(ROOT / document).split())
    with (ROOT / "pyproject.toml").open("rb") as file:
        contracts = tomllib.load(file)["tool"]["importlinter"]["contracts"]
    rules = {
        container: " → ".join(contract["layers"])
        for contract in contracts
        if contract["type"] == "layers"
        for container in contract["containers"]
    }
    assert set(rules) == {"ratchet", "ratchet.pipelines", "ratchet.service"}
    assert not [one for one, rule in rules.items() if f" {one}: {rule} " not in words]


@pytest.mark.parametrize("package", ["pipelines", "service"])
def test_every_room_has_a_line_in_the_tree(package):
    text = text_of(ROOT / "README.md")
    tree = text.split("## The code")[1].split("```")[1]
    own = re.split(rf"^{package}/", tree, flags=re.MULTILINE)[1]
    rooms = re.split(r"^\w", own, maxsplit=1, flags=re.MULTILINE)[0]
    named = re.findall(r"^  (\w+)/ ", rooms, re.MULTILINE)
    assert sorted(named) == sorted(
        path.parent.name for path in (ROOT / package).glob("*/__init__.py")
    )
