from __future__ import annotations

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from ratchet.pipelines.errors import DivergedError, MethodError
from ratchet.pipelines.methods.penalty import QuadraticPenalty


def parameters(**values):
    return {name: nn.Parameter(torch.tensor(value)) for name, value in values.items()}


def tensors(**values):
    return {name: torch.tensor(value) for name, value in values.items()}


def test_value_and_gradient_match_numbers_worked_by_hand():
    penalty = QuadraticPenalty()
    penalty.merge(tensors(w=[2.0, 0.0, 1.0]), tensors(w=[1.0, 1.0, 1.0]))
    weights = parameters(w=[4.0, 9.0, -1.0])
    weights["w"].grad = torch.tensor([1.0, 1.0, 1.0])
    assert penalty.value(weights).item() == 0.5 * (2 * 9 + 0 + 1 * 4)
    penalty.add_gradient(weights, 10.0)
    assert weights["w"].grad.tolist() == [1 + 10 * 6.0, 1.0, 1 - 10 * 2.0]


SHAPES = {
    "vector": (7,),
    "matrix": (5, 3),
    "rows": (40, 3),
    "big": (300, 500),
    "scalar": (),
}


def random_task(seed, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    importance = {n: torch.rand(s, generator=generator) for n, s in SHAPES.items()}
    importance["rows"][::3] = 0.0
    importance["rows"][1::3] = 0.0
    center = {n: torch.randn(s, generator=generator) for n, s in SHAPES.items()}
    return (
        {n: v.to(device) for n, v in importance.items()},
        {n: v.to(device) for n, v in center.items()},
    )


def check_gradient_against_autograd(device):
    """On another device than the one that the state was loaded to."""
    saved = QuadraticPenalty()
    saved.merge(*random_task(0))
    penalty = QuadraticPenalty()
    penalty.load_state_dict(saved.state_dict())
    weights = {n: nn.Parameter(v) for n, v in random_task(1, device)[1].items()}
    weights["transposed"] = nn.Parameter(torch.randn(4, 6, device=device).T)
    penalty.merge(
        {"transposed": torch.rand(6, 4, device=device)},
        {"transposed": torch.randn(6, 4, device=device)},
    )
    before = {n: torch.randn_like(v) for n, v in weights.items()}
    for name, weight in weights.items():
        weight.grad = before[name].clone()
    names = list(weights)
    expected = torch.autograd.grad(penalty.value(weights), [weights[n] for n in names])
    penalty.add_gradient(weights, 3.0)
    for name, grad in zip(names, expected, strict=True):
        torch.testing.assert_close(weights[name].grad, before[name] + 3.0 * grad)


def test_closed_form_gradient_equals_autograd():
    check_gradient_against_autograd("cpu")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_closed_form_gradient_equals_autograd_on_a_gpu():
    check_gradient_against_autograd("cuda")


@pytest.mark.parametrize("num_tasks", [2, 5])
def test_one_anchor_equals_the_explicit_sum_over_tasks(num_tasks):
    penalty = QuadraticPenalty()
    tasks = [random_task(seed) for seed in range(num_tasks)]
    for importance, center in tasks:
        penalty.merge(importance, center, per_task=True)
    weights = {n: nn.Parameter(v) for n, v in random_task(99)[1].items()}
    explicit = sum(
        0.5 * (importance[n] * (weights[n] - center[n]).square()).sum()
        for importance, center in tasks
        for n in SHAPES
    )
    torch.testing.assert_close(penalty.value(weights), explicit, rtol=1e-5, atol=0.0)
    expected = torch.autograd.grad(explicit, list(weights.values()))
    penalty.add_gradient(weights, 1.0)
    for name, grad in zip(weights, expected, strict=True):
        torch.testing.assert_close(weights[name].grad, grad, rtol=1e-4, atol=1e-5)


def test_state_does_not_grow_with_tasks():
    penalty = QuadraticPenalty()
    sizes = []
    for seed in range(4):
        penalty.merge(*random_task(seed), per_task=True)
        sizes.append(sum(v.numel() * v.element_size() for v in penalty.state_dict().values()))
    assert len(set(sizes)) == 1


@pytest.mark.parametrize(("decay", "expected"), [(1.0, [5.0, 4.0]), (0.5, [4.0, 2.5])])
def test_importance_is_summed_or_decayed_and_the_center_is_the_newest(decay, expected):
    penalty = QuadraticPenalty()
    penalty.merge(tensors(w=[2.0, 3.0]), tensors(w=[0.0, 0.0]), decay=decay)
    penalty.merge(tensors(w=[3.0, 1.0]), tensors(w=[7.0, 8.0]), decay=decay)
    assert penalty.importance["w"].tolist() == expected
    assert penalty.center["w"].tolist() == [7.0, 8.0]
    assert penalty.value(tensors(w=[7.0, 8.0])).item() == 0.0


def test_decayed_anchors_of_each_task_keep_value_and_constant_in_step():
    penalty = QuadraticPenalty()
    for importance, center in ((2.0, 0.0), (4.0, 3.0), (1.0, -1.0)):
        penalty.merge(tensors(w=[importance]), tensors(w=[center]), decay=0.5, per_task=True)
    explicit = 0.5 * (0.25 * 2 * (5 - 0) ** 2 + 0.5 * 4 * (5 - 3) ** 2 + 1 * (5 + 1) ** 2)
    assert penalty.value(tensors(w=[5.0])).item() == pytest.approx(explicit)


def test_parameters_come_and_go_between_tasks():
    penalty = QuadraticPenalty()
    penalty.merge(tensors(body=[1.0], head_a=[2.0]), tensors(body=[0.0], head_a=[0.0]))
    penalty.merge(tensors(body=[1.0], head_b=[4.0]), tensors(body=[1.0], head_b=[0.0]), decay=0.5)
    weights = parameters(body=[2.0], head_b=[1.0], head_c=[1.0])
    penalty.add_gradient(weights, 1.0)
    assert weights["body"].grad.tolist() == [1.5]
    assert weights["head_b"].grad.tolist() == [4.0]
    assert weights["head_c"].grad is None
    back = parameters(head_a=[3.0])
    penalty.add_gradient(back, 1.0)
    assert back["head_a"].grad.tolist() == [0.5 * 2 * 3.0]


def test_the_center_of_a_parameter_that_was_not_measured_moves_too():
    penalty = QuadraticPenalty()
    penalty.merge(tensors(w=[1.0]), tensors(w=[0.0]))
    penalty.merge({}, tensors(w=[5.0]))
    assert penalty.center["w"].tolist() == [5.0]
    assert penalty.importance["w"].tolist() == [1.0]


def test_a_missing_grad_is_made_only_where_importance_is_not_zero():
    penalty = QuadraticPenalty()
    zero = tensors(held=[0.0, 0.0], free=[0.0, 0.0])
    penalty.merge(tensors(held=[0.0, 1.0], free=[0.0, 0.0]), zero)
    weights = parameters(held=[1.0, 1.0], free=[1.0, 1.0])
    penalty.add_gradient(weights, 2.0)
    assert weights["held"].grad.tolist() == [0.0, 2.0]
    assert weights["free"].grad is None


def test_strength_zero_touches_nothing():
    penalty = QuadraticPenalty()
    penalty.merge(tensors(a=[1.0], b=[1.0]), tensors(a=[0.0], b=[0.0]))
    weights = parameters(a=[math.inf], b=[1.0])
    weights["a"].grad = torch.tensor([-0.0])
    penalty.add_gradient(weights, 0.0)
    assert str(weights["a"].grad.item()) == "-0.0"
    assert weights["b"].grad is None


def test_live_weights_and_given_importances_are_copied():
    penalty = QuadraticPenalty()
    weights = parameters(w=[1.0, 2.0])
    importance = tensors(w=[1.0, 1.0])
    penalty.merge(importance, weights)
    with torch.no_grad():
        weights["w"].add_(10.0)
    importance["w"].zero_()
    assert penalty.value(weights).item() == 100.0
    assert not penalty.center["w"].requires_grad


def test_a_saved_state_is_not_changed_by_later_tasks():
    penalty = QuadraticPenalty()
    penalty.merge(*random_task(0))
    state = penalty.state_dict()
    copies = {name: value.clone() for name, value in state.items()}
    penalty.merge(*random_task(1), decay=0.5, per_task=True)
    assert all(torch.equal(state[name], copies[name]) for name in state)


def test_a_restored_penalty_goes_on_as_the_first():
    first = QuadraticPenalty()
    first.merge(*random_task(0), per_task=True)
    first.merge(*random_task(1), per_task=True)
    second = QuadraticPenalty()
    state = first.state_dict()
    second.load_state_dict(state)
    for value in state.values():
        assert not any(value.data_ptr() == mine.data_ptr() for mine in second.state_dict().values())
    for penalty in (first, second):
        penalty.merge(*random_task(2), decay=0.9, per_task=True)
    weights = random_task(3)[1]
    assert torch.equal(first.value(weights), second.value(weights))
    assert first.state_dict().keys() == second.state_dict().keys()


@pytest.mark.parametrize(
    ("importance", "center", "error", "message"),
    [
        ([math.nan], [0.0], DivergedError, "w is not finite"),
        ([-1.0], [0.0], MethodError, "w is negative"),
        ([1.0], [0.0, 0.0], MethodError, r"center of shape \[1\]"),
        ([1.0, 1.0], [0.0, 0.0], MethodError, r"had shape \[1\]"),
    ],
)
def test_unusable_importances_are_refused_and_change_nothing(importance, center, error, message):
    penalty = QuadraticPenalty()
    penalty.merge(tensors(w=[3.0]), tensors(w=[0.0]))
    with pytest.raises(error, match=message):
        penalty.merge(tensors(w=importance), tensors(w=center), decay=0.5)
    assert penalty.importance["w"].tolist() == [3.0]


@pytest.mark.parametrize("key", ["center/w", "importance/w", "constant/w"])
def test_an_incomplete_state_is_refused(key):
    penalty = QuadraticPenalty()
    penalty.merge(tensors(w=[3.0]), tensors(w=[0.0]))
    state = penalty.state_dict()
    del state[key]
    with pytest.raises(MethodError, match="lacks"):
        QuadraticPenalty().load_state_dict(state)


def test_an_unknown_state_is_refused():
    with pytest.raises(MethodError, match="unknown state 'anchor/w'"):
        QuadraticPenalty().load_state_dict({"anchor/w": torch.zeros(1)})


importances = st.floats(0, 1e3, width=32)
weights = st.floats(-1e2, 1e2, width=32)


@settings(max_examples=100)
@given(tasks=st.lists(st.tuples(importances, weights), min_size=1, max_size=6), theta=weights)
@example(tasks=[(0.0, 1.0), (1.0, 9.45e-08)], theta=0.0)  # the first counts for nothing
def test_the_sum_over_tasks_is_kept_for_any_anchors(tasks, theta):
    penalty = QuadraticPenalty()
    for importance, center in tasks:
        penalty.merge(tensors(w=importance), tensors(w=center), per_task=True)
    explicit = sum(0.5 * f * (theta - a) ** 2 for f, a in tasks)
    scale = sum(0.5 * f * (abs(theta) + abs(a)) ** 2 for f, a in tasks)
    assert penalty.value(tensors(w=theta)).item() == pytest.approx(
        explicit, abs=1e-5 * scale + 1e-30
    )
