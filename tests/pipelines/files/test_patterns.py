import glob
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.errors import DataError
from ratchet.pipelines.files.patterns import (
    Visits,
    matches,
    may_reach,
    pattern_fault,
    split_pattern,
)

FILES = [
    "a.jsonl",
    "b.csv",
    "sub/a.jsonl",
    "sub/deep/a.jsonl",
    "sub/deep/down/b.jsonl",
    "other/deep/a.jsonl",
    ".hidden/a.jsonl",
    ".hidden.jsonl",
    "sub/.hidden/deep/a.jsonl",
]
PARTS = st.sampled_from(["*", "?.jsonl", "[ab].*", "s*", "sub", "d*", "deep", "*.jsonl", "a*"])


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tree")
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def files_found(folder, pattern):
    found = matches(str(folder), pattern.split("/"), Visits())
    return sorted(os.path.relpath(path, folder) for path in found if os.path.isfile(path))


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*", ["a.jsonl", "b.csv"]),
        ("*.jsonl", ["a.jsonl"]),
        ("[!a].csv", ["b.csv"]),
        ("*/a.jsonl", ["sub/a.jsonl"]),
        ("*/deep/*", ["other/deep/a.jsonl", "sub/deep/a.jsonl"]),
        ("sub/**", ["sub/a.jsonl", "sub/deep/a.jsonl", "sub/deep/down/b.jsonl"]),
        ("a*/**", []),
        ("**/b.*", ["b.csv", "sub/deep/down/b.jsonl"]),
        ("**/deep/*.jsonl", ["other/deep/a.jsonl", "sub/deep/a.jsonl"]),
        (".hidden/*", []),
        (".h*", []),
        ("a.jsonl/*", []),
    ],
)
def test_a_pattern_finds_what_it_says_and_nothing_hidden(tree, pattern, found):
    assert files_found(tree, pattern) == found


@given(st.lists(PARTS, min_size=1, max_size=4), st.none() | st.integers(0, 3))
def test_a_pattern_finds_each_file_once_and_what_a_shell_finds(tree, parts, place):
    if place is not None:
        parts = [*parts[:place], "**", *parts[place:], "*"]
    pattern = "/".join(parts)
    found = files_found(tree, pattern)
    listed = glob.glob(f"{tree}/{pattern}", recursive=True)
    assert found == sorted(os.path.relpath(path, tree) for path in listed if os.path.isfile(path))


def test_links_in_a_ring_are_not_followed_at_any_depth(tmp_path):
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "ring").symlink_to(tmp_path)
    assert files_found(tmp_path, "**/*.jsonl") == ["a.jsonl"]
    assert files_found(tmp_path, "ring/*.jsonl") == ["ring/a.jsonl"]


def test_the_search_ends_where_too_much_is_looked_at(tree):
    assert list(matches(str(tree), ["*.none"], Visits(6))) == []
    with pytest.raises(DataError, match="more than 6 files and folders"):
        list(matches(str(tree), ["**", "*.none"], Visits(6)))


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("/a/**/b/**/c", "once at most"),
        ("/a/x**/c", "between slashes"),
        ("/a/***/c", "between slashes"),
        ("s3://bucket/**/**", "once at most"),
        ("/a/*/../b", "cannot climb"),
        ("/a/" + "*/" * 17, "up to 16 parts"),
        ("/" + "a" * 1024 + "*", "up to 1024 characters"),
    ],
)
def test_patterns_that_cost_too_much_are_told_by_their_look(pattern, says):
    assert says in pattern_fault(pattern)


@pytest.mark.parametrize(
    "path", ["/a/**/b*.jsonl", "../a/*", "/a/" + "*/" * 16, "/a" * 600, "s3://b/**"]
)
def test_other_patterns_and_plain_paths_are_sound(path):
    assert pattern_fault(path) is None


@pytest.mark.parametrize(
    ("path", "split"),
    [
        ("/a/b*/c", ("/a", ["b*", "c"])),
        ("/*", ("/", ["*"])),
        ("*/./x//", ("", ["*", "x"])),
        ("/a/b", ("/a/b", [])),
    ],
)
def test_a_pattern_begins_at_its_first_sign(path, split):
    assert split_pattern(path) == split


@pytest.mark.parametrize(
    ("named", "place", "reaches"),
    [
        ("proj/home/x", "proj/home", True),
        ("proj/home", "proj/home", True),
        ("proj", "proj/home", True),
        ("proj/other", "proj/home", False),
        ("proj/*", "proj/home", False),
        ("proj/*/x", "proj/home", True),
        ("proj/h*/x", "proj/home", True),
        ("proj/o*/x", "proj/home", False),
        ("proj/*/x", "proj/.home", False),
        ("proj/**", "proj/home", True),
        ("proj/a/**", "proj/home", False),
        ("proj/**/x", "proj/.home", False),
        ("proj/**/x", "proj/a/.home", False),
    ],
)
def test_what_may_reach_a_place_is_told_without_a_look(named, place, reaches):
    assert may_reach(named.split("/"), place.split("/")) is reaches
