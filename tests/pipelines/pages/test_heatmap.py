import numpy as np
import pytest
from matplotlib import image
from PIL import Image

from ratchet.pipelines.pages.heatmap import write_heatmap


@pytest.mark.parametrize("count", [1, 2, 15])
def test_a_png_is_written_that_grows_with_the_tasks(tmp_path, count):
    matrix = [[0.9 if j <= i else None for j in range(count)] for i in range(count)]
    path = tmp_path / "matrix.png"
    write_heatmap(matrix, [f"task {i}" for i in range(count)], path)
    assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    height, width, _ = image.imread(path).shape
    assert width == pytest.approx(150 * (2.2 + 0.62 * count), abs=2)
    assert height == pytest.approx(150 * (1.6 + 0.42 * count), abs=2)


def test_higher_accuracies_are_darker_and_missing_ones_white(tmp_path):
    def darkness(value):
        path = tmp_path / "matrix.png"
        write_heatmap([[value]], ["a"], path)
        return 1 - image.imread(path)[..., :3].mean()

    shades = [darkness(value) for value in (np.nan, 0.2, 0.5, 0.95)]
    assert shades == sorted(shades)
    assert len(set(shades)) == 4


def test_names_are_no_formulas(tmp_path):
    write_heatmap([[0.5, 0.5]], ["$\\frac{$", "x" * 64], tmp_path / "matrix.png")
    assert (tmp_path / "matrix.png").is_file()


@pytest.mark.parametrize(
    ("scores", "title"),
    [
        (("accuracy",), "Accuracy on each task (%)"),
        (["token_accuracy"] * 2, "Token accuracy on each task (%)"),
        (["accuracy", "exact_match"], "Accuracy or exact match on each task (%)"),
    ],
)
def test_the_title_names_each_score_once(tmp_path, scores, title):
    path = tmp_path / "matrix.png"
    write_heatmap([[0.5, 0.5]], ["a", "b"], path, scores)
    with Image.open(path) as picture:
        assert picture.info["Title"] == title
