"""Covers, beside `expansion`: `models.expansion`."""

import pytest
import torch

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.expansion import Expansion
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.models.expansion import ExpandedHeads, SparseExpansion
from ratchet.pipelines.spec.methods import METHOD_CONFIGS, stack_problems
from ratchet.pipelines.spec.methods.growth import ExpansionConfig
from ratchet.pipelines.types import Task
from tests.conformance.streams import plan_of, teacher_of
from tests.tiny import TASKS


def test_only_the_units_with_the_largest_drive_fire():
    layer = SparseExpansion(2, 4, 2)
    weight = [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [-1.0, 0.0]]
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor(weight))
        layer.linear.bias.copy_(torch.tensor([0.0, 0.0, 0.0, -0.5]))
    # Normalised, (3, 1) is (1, -1): drives 1, -1, 2, -1.5; and (1, 3) is (-1, 1): -1, 1, -2, 0.5.
    fired = layer(torch.tensor([[3.0, 1.0], [1.0, 3.0]]))
    wanted = [[1.0, 0.0, 2.0, 0.0], [0.0, 1.0, 0.0, 0.5]]
    torch.testing.assert_close(fired, torch.tensor(wanted), rtol=1e-4, atol=1e-4)


def test_a_negative_drive_gives_nothing_even_among_the_largest():
    layer = SparseExpansion(2, 2, 2)
    with torch.no_grad():
        layer.linear.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0]]))
    fired = layer(torch.tensor([[3.0, 1.0]]))
    torch.testing.assert_close(fired, torch.tensor([[1.0, 0.0]]), rtol=1e-4, atol=1e-4)


def test_units_that_do_not_fire_get_no_gradient():
    torch.manual_seed(0)
    layer = SparseExpansion(8, 20, 3)
    fired = layer(torch.randn(1, 8))
    fired.sum().backward()
    moved = layer.linear.weight.grad.abs().sum(dim=1) > 0
    assert moved.sum() == 3
    assert torch.equal(moved, fired[0] > 0)


def test_the_backbone_runs_once_over_the_rows_of_a_stage(tiny_model, tmp_path):
    options = {"training": {"num_epochs": 5}}
    teacher = teacher_of(plan_of(tiny_model, tmp_path, [{"type": "expansion"}], TASKS, **options))
    rows = []
    teacher.model.backbone.register_forward_hook(
        lambda _module, _args, kwargs, _output: rows.append(len(kwargs["input_ids"])),
        with_kwargs=True,
    )
    teacher.run()
    assert not teacher.model.backbone_trains
    train = sum(len(stage) for stage in teacher.data.train.values())
    held_out = sum(len(held.rows) for held in teacher.data.held_out.values())
    # Once for the table and once for the router; held-out rows once for their features, whatever
    # the number of stages, and once for the router.
    assert sum(rows) == 2 * train + 2 * held_out


def test_a_layer_in_which_no_unit_would_fire_is_refused_before_training(tiny_model):
    model = load_classifier(str(tiny_model))
    method = Expansion(ExpansionConfig(width=0.1, active=0.1))
    with pytest.raises(MethodError, match=r"width 0\.1 and active 0\.1 give 3 units"):
        method.expand(model, Task(0, "first", (0, 1)))


def test_the_layer_has_width_times_dim_units_of_which_the_share_fires(tiny_model):
    model = load_classifier(str(tiny_model))
    Expansion(ExpansionConfig(width=4, active=0.1)).expand(model, Task(0, "first", (0, 1)))
    assert isinstance(model.heads, ExpandedHeads)
    assert (model.heads.num_units, model.heads.num_active) == (128, 13)


@pytest.mark.parametrize("heads", [{"cosine": True}, {"layout": "per_task"}], ids=str)
def test_other_heads_beside_it_are_refused(heads):
    stack = [METHOD_CONFIGS["heads"](**heads), ExpansionConfig()]
    assert "expansion brings its own head" in str(stack_problems(stack, "class_incremental")[0])


def test_a_language_model_is_refused():
    problems = stack_problems([ExpansionConfig()], "class_incremental", kind="causal_lm")
    assert "expansion does not work with a causal language model" in str(problems[0])
