import torch

from ratchet.pipelines.models.class_gaussians import ClassGaussians
from ratchet.pipelines.models.router_statistics import RouterStatistics


def statistics_of(features, classes, num_classes):
    statistics = RouterStatistics.empty(features.shape[1])
    statistics.add(features, torch.as_tensor(classes), num_classes)
    return statistics


def test_means_and_the_covariance_within_classes_are_those_worked_out_by_hand():
    # Class 0: (0, 0), (2, 0); class 2: (10, 1), (10, 5); class 1 has no row.
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [10.0, 1.0], [10.0, 5.0]])
    found = ClassGaussians.of(statistics_of(features, [0, 0, 2, 2], 3))
    assert found.classes.tolist() == [0, 2]
    assert found.means.tolist() == [[1.0, 0.0], [10.0, 3.0]]
    # Squares about the means: 1 + 1 along x, 4 + 4 along y; 4 rows less 2 means.
    torch.testing.assert_close(found.root @ found.root.T, torch.tensor([[1.0, 0.0], [0.0, 4.0]]))


def test_what_is_drawn_has_the_moments_of_what_was_seen():
    numbers = torch.Generator().manual_seed(0)
    shape = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.3, 0.0], [0.0, 0.5, 2.0]])
    classes = torch.arange(4000) % 2
    centers = torch.tensor([[5.0, 0.0, -1.0], [0.0, 3.0, 1.0]])
    seen = centers[classes] + torch.randn(4000, 3, generator=numbers) @ shape.T
    features, drawn = ClassGaussians.of(statistics_of(seen, classes, 2)).draw(20_000, numbers)
    assert abs(float(drawn.float().mean()) - 0.5) < 0.02
    for index in range(2):
        own = features[drawn == index]
        torch.testing.assert_close(own.mean(0), centers[index], atol=0.1, rtol=0)
        torch.testing.assert_close(own.T.cov(), shape @ shape.T, atol=0.3, rtol=0)


def test_a_class_of_one_row_is_drawn_as_that_row():
    features, classes = ClassGaussians.of(statistics_of(torch.tensor([[1.5, -2.0]]), [1], 2)).draw(
        3, torch.Generator().manual_seed(0)
    )
    assert classes.tolist() == [1, 1, 1]
    torch.testing.assert_close(features, torch.tensor([[1.5, -2.0]]).expand(3, 2))
