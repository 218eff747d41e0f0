import copy

import pytest
import torch
from torch import nn

from ratchet.pipelines.spec.update_spec import TrainingSpec
from ratchet.pipelines.training.optim import StageOptimizer


@pytest.mark.parametrize("max_norm", [1e-3, 0.5, 1e6, None])
def test_clipping_inside_the_step_equals_clipping_before_it(max_norm):
    torch.manual_seed(0)
    settings = {"max_grad_norm": max_norm, "schedule": "constant", "warmup_fraction": 0.0}
    training = TrainingSpec(learning_rate=0.1, weight_decay=0.1, **settings)
    model = nn.Linear(3, 2)
    other = copy.deepcopy(model)
    mine = StageOptimizer(dict(model.named_parameters()), training, 10)
    plain = torch.optim.AdamW(
        [
            {"params": [other.weight], "weight_decay": 0.1},
            {"params": [other.bias], "weight_decay": 0.0},
        ],
        lr=0.1,
    )
    for _ in range(4):
        inputs = torch.randn(5, 3)
        (model(inputs) * 3).square().sum().backward()
        (other(inputs) * 3).square().sum().backward()
        norm = mine.clip()
        mine.step()
        expected = torch.nn.utils.get_total_norm([p.grad for p in other.parameters()])
        if max_norm is not None:
            nn.utils.clip_grad_norm_(other.parameters(), max_norm)
        plain.step()
        plain.zero_grad()
        torch.testing.assert_close(norm, expected)
    torch.testing.assert_close(model.weight, other.weight)
    torch.testing.assert_close(model.bias, other.bias)


def test_a_stage_where_nothing_has_a_gradient_has_norm_zero_and_stays():
    layer = nn.Linear(2, 2)
    before = layer.weight.detach().clone()
    optimizer = StageOptimizer(dict(layer.named_parameters()), TrainingSpec(), 10)
    assert optimizer.clip() == 0.0
    optimizer.step()
    assert torch.equal(layer.weight, before)
