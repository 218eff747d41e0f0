import pytest
import torch

from ratchet.pipelines.models.pooling import pool, spread_features, spread_layers

HIDDEN = torch.tensor([[[1.0, 2.0], [3.0, 4.0], [100.0, 100.0]]])


@pytest.mark.parametrize(
    ("pooling", "mask", "expected"),
    [
        ("mean", [[1, 1, 0]], [[2.0, 3.0]]),
        ("mean", [[1, 0, 0]], [[1.0, 2.0]]),
        ("mean", [[0, 0, 0]], [[0.0, 0.0]]),
        ("cls", [[1, 1, 0]], [[1.0, 2.0]]),
    ],
)
def test_padding_does_not_count(pooling, mask, expected):
    assert pool(HIDDEN, torch.tensor(mask), pooling).tolist() == expected


def test_pooled_vectors_are_float32_whatever_the_precision():
    assert pool(HIDDEN.bfloat16(), torch.ones(1, 3), "mean").dtype == torch.float32


def test_layers_lie_side_by_side_each_of_length_one():
    states = [torch.randn(4, 5, 3) for _ in range(3)]
    found = spread_features(states, torch.ones(4, 5), (0, 2), "mean")
    assert found.shape == (4, 6)
    torch.testing.assert_close(found[:, :3].norm(dim=-1), torch.ones(4))
    wanted = torch.nn.functional.normalize(states[2].mean(dim=1), dim=-1)
    torch.testing.assert_close(found[:, 3:], wanted)


@pytest.mark.parametrize(
    ("num_layers", "dim", "layers"),
    [
        (6, 384, (0, 3, 6)),
        (2, 32, (0, 1, 2)),
        (1, 32, (1,)),
        (24, 1024, (0, 12, 24)),
        (24, 1025, (24,)),
    ],
)
def test_three_layers_are_read_unless_too_wide_or_too_few(num_layers, dim, layers):
    assert spread_layers(num_layers, dim) == layers
