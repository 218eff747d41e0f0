"""Covers, beside `picture`: `files`."""

import json

import pytest
from PIL import Image

from ratchet.pipelines.tuning.page.files import FORMAT, write_study
from ratchet.pipelines.tuning.page.picture import BEATEN, CHOSEN, FRONT, write_picture
from tests.pipelines.tuning.trials import failed, study, trial

FOUND = [
    trial(0, [0.9, 0.8], [0.2, 0.1]),
    trial(1, [0.7, 0.7], [0.0, 0.01]),
    trial(2, [0.6, 0.7], [0.3, 0.3]),
]


def colours(path):
    with Image.open(path) as image:
        pixels = image.convert("RGB").getcolors(1 << 20)
    return {"#{:02x}{:02x}{:02x}".format(*own) for number, own in pixels if number > 20}


def test_the_picture_shows_the_front_the_beaten_and_the_chosen(tmp_path):
    write_picture(study(FOUND), tmp_path / "front.png")
    assert {FRONT, BEATEN, CHOSEN} <= colours(tmp_path / "front.png")


@pytest.mark.parametrize("objectives", [["cost"], ["stability", "cost"], ["plasticity"]])
def test_other_objectives_have_a_picture_too(tmp_path, objectives):
    write_picture(study(FOUND, objectives=objectives), tmp_path / "front.png")
    assert FRONT in colours(tmp_path / "front.png")


def test_a_picture_of_nothing_has_no_front(tmp_path):
    write_picture(study([failed(0)]), tmp_path / "front.png")
    assert not {FRONT, BEATEN, CHOSEN} & colours(tmp_path / "front.png")


def test_a_study_leaves_three_files_and_nothing_else(tmp_path):
    folder = tmp_path / "studies" / "one"
    found = study(FOUND)
    page = folder / "study.html"
    assert write_study(found, folder) == write_study(found, folder) == page
    assert sorted(own.name for own in folder.iterdir()) == ["front.png", "study.html", "study.json"]
    written = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    assert written == {"format": FORMAT, **json.loads(json.dumps(found.as_dict()))}
