import json
from dataclasses import dataclass

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.files.formats import checked, read_format, read_format_file


@dataclass(frozen=True)
class Part:
    name: str
    share: float | None


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    counts: dict[str, int | float]


RAW = {
    "format": 3,
    "parts": [{"name": "a", "share": None}, {"name": "b", "share": 0.5}],
    "counts": {"rows": 7, "mean": 7.0},
}
HINT = "remove it to begin again"


def read(raw):
    return read_format(Whole, raw, 3, "part.json", HINT)


def test_plain_values_become_the_type_and_numbers_keep_theirs():
    found = read(RAW)
    assert found == Whole((Part("a", None), Part("b", 0.5)), {"rows": 7, "mean": 7.0})
    assert [type(value) for value in found.counts.values()] == [int, float]


@pytest.mark.parametrize(("number", "writer"), [(2, "an older"), (4, "a newer")])
def test_another_format_is_refused_in_a_line_that_says_who_wrote_it_and_what_to_do(number, writer):
    with pytest.raises(VersionError) as caught:
        read({**RAW, "format": number})
    assert str(caught.value) == (
        f"part.json has format {number} and was written by {writer} release of Ratchet; this one "
        "reads format 3: remove it to begin again"
    )


@pytest.mark.parametrize("raw", [[], None, {}, {"format": "3"}, {"format": True}])
def test_what_says_no_format_is_refused(raw):
    with pytest.raises(VersionError, match=r"part.json has no format number.*; remove it"):
        read(raw)


def test_a_wrong_value_is_named_with_its_place():
    broken = {**RAW, "parts": [{"name": "a", "share": "much"}]}
    with pytest.raises(VersionError, match=r"part.json is broken: parts.0.share: .*; remove it"):
        read(broken)


def test_a_part_needs_no_format_of_its_own():
    assert checked(Part, {"name": "a", "share": 1.0, "more": 2}, "part", HINT) == Part("a", 1.0)


def test_a_file_is_read_and_one_cut_short_refused_by_its_name(tmp_path):
    path = tmp_path / "whole.json"
    path.write_text(json.dumps(RAW), encoding="utf-8")
    assert read_format_file(Whole, path, 3, HINT) == read(RAW)
    path.write_text(json.dumps(RAW)[:-4], encoding="utf-8")
    with pytest.raises(VersionError, match=f"{path} is broken: .*; {HINT}"):
        read_format_file(Whole, path, 3, HINT)
