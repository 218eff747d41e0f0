import pytest
import torch

from ratchet.pipelines.evaluation.probe import LinearProbe, ProbeRows


def rows(features, targets):
    return ProbeRows(torch.tensor(features, dtype=torch.float32), torch.tensor(targets))


LINE = rows([[0.0], [1.0], [10.0], [11.0]], [4, 4, 9, 9])


def test_classes_on_a_line_are_told_apart_by_a_threshold():
    probe = LinearProbe(LINE, LINE)
    assert probe.accuracy(rows([[2.0], [5.0], [6.0], [20.0]], [4, 4, 9, 9])) == 1.0
    assert probe.accuracy(rows([[2.0], [5.0], [6.0], [20.0]], [9, 4, 9, 4])) == 0.5


def test_the_weights_solve_the_ridge_regression():
    probe = LinearProbe(LINE, LINE, ridges=[0.1])
    x = (LINE.features.double() - 5.5) / LINE.features.double().std(correction=0)
    inputs = torch.cat([x, torch.ones_like(x)], dim=1)
    wanted = torch.tensor([[1, 0], [1, 0], [0, 1], [0, 1]], dtype=torch.float64)
    gram = inputs.T @ inputs + 0.1 * 4 * torch.eye(2)  # the mean diagonal of the Gram matrix is 4
    torch.testing.assert_close(probe.weights, torch.linalg.solve(gram, inputs.T @ wanted).T)


def test_the_size_and_place_of_features_do_not_matter():
    torch.manual_seed(0)
    features, targets = torch.randn(40, 5), torch.arange(40) % 3
    held = ProbeRows(torch.randn(30, 5), torch.arange(30) % 3)
    moved = [
        ProbeRows(f.features * 1e3 + 50, f.targets) for f in (ProbeRows(features, targets), held)
    ]
    plain = LinearProbe(ProbeRows(features, targets), held)
    assert LinearProbe(*moved).accuracy(moved[1]) == plain.accuracy(held)


def test_a_feature_that_never_changes_does_no_harm():
    constant = [ProbeRows(torch.cat([f.features, torch.ones(4, 1)], 1), f.targets) for f in (LINE,)]
    assert LinearProbe(constant[0], constant[0]).accuracy(constant[0]) == 1.0


def test_validation_chooses_the_ridge():
    flipped = ProbeRows(LINE.features, torch.tensor([4, 4, 4, 9]))
    weak = LinearProbe(LINE, flipped, ridges=[1e-4])
    chosen = LinearProbe(LINE, flipped, ridges=[1e-4, 1e4])
    assert chosen.accuracy(flipped) >= weak.accuracy(flipped)


def test_no_rows_are_none_right():
    empty = ProbeRows(torch.empty(0, 1), torch.empty(0, dtype=torch.long))
    assert LinearProbe(LINE, empty).accuracy(empty) == pytest.approx(0.0)
