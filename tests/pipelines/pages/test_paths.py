import pytest

from ratchet.pipelines.pages import paths
from ratchet.pipelines.pages.scale import Scale

UP = Scale(0.0, 1.0, 100.0, 0.0)
ACROSS = Scale(0.0, 1.0, 0.0, 200.0)


def test_a_whisker_goes_from_end_to_end_and_stays_in_the_chart():
    assert paths.upright_whisker(50, (0.25, 0.75), UP) == "M50,75V25"
    assert paths.level_whisker(50, (0.25, 0.75), ACROSS) == "M50,50H150"
    assert paths.upright_whisker(50, (-3.0, 4.0), UP) == "M50,100V0"


def test_what_has_no_interval_has_no_whisker():
    assert paths.upright_whisker(50, None, UP) == paths.level_whisker(50, None, ACROSS) == ""


@pytest.mark.parametrize(
    ("corners", "path"),
    [([], ""), ([(1, 2)], ""), ([(1, 9), (2.5, 4), (7, 1)], "M1,9H2.5V4H7V1")],
)
def test_steps_go_across_before_they_go_up(corners, path):
    assert paths.steps(corners) == path


@pytest.mark.parametrize(
    ("points", "path"), [([], ""), ([(1, 2)], "M1,2"), ([(1, 2), (3, 4.5)], "M1,2L3,4.5")]
)
def test_a_line_passes_its_points(points, path):
    assert paths.line(points) == path
