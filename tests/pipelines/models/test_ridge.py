"""Covers, beside `ridge`: `ridge_head`."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.ridge import BLOCK, RidgeSums, project, random_projection
from ratchet.pipelines.models.ridge_head import RidgeHead
from ratchet.pipelines.types import Task

WIDTH, CLASSES = 12, 4


def sample(num_rows, width=WIDTH):
    generator = torch.Generator().manual_seed(num_rows)
    hidden = torch.rand(num_rows, width, generator=generator)
    return hidden, torch.randint(CLASSES, (num_rows,), generator=generator)


def sums_of(hidden, targets, weights=None, num_classes=CLASSES):
    sums = RidgeSums.empty(hidden.shape[1])
    sums.grow(num_classes)
    sums.add(hidden, targets, torch.ones(len(targets)) if weights is None else weights)
    return sums


def solved_by_hand(hidden, targets, weights, ridge):
    rows, labels = hidden.double().numpy(), np.eye(CLASSES)[targets.numpy()]
    gram = rows.T @ np.diag(weights.double().numpy()) @ rows
    moment = labels.T @ np.diag(weights.double().numpy()) @ rows
    return moment @ np.linalg.inv(gram + ridge * np.diag(gram).mean() * np.eye(len(gram)))


@pytest.mark.parametrize("width", [1, WIDTH, BLOCK + 3])
@pytest.mark.parametrize("ridge", [1e-3, 1.0])
def test_weights_solve_the_regularised_normal_equations(width, ridge):
    hidden, targets = sample(60, width)
    weights = torch.rand(60)
    (solution,) = sums_of(hidden, targets, weights).solutions([ridge])
    expected = solved_by_hand(hidden, targets, weights, ridge)
    np.testing.assert_allclose(solution.numpy(), expected, rtol=1e-8, atol=1e-10)


def test_each_ridge_of_a_grid_is_solved_as_if_alone():
    sums = sums_of(*sample(40))
    grid = [1.0, 1e-3, 0.1]
    together = list(sums.solutions(grid))
    alone = [next(sums.solutions([ridge])) for ridge in grid]
    assert all(torch.equal(left, right) for left, right in zip(together, alone, strict=True))


def test_rows_of_weight_zero_leave_no_trace():
    hidden, targets = sample(40)
    weights = (torch.arange(40) < 25).float()
    some = next(sums_of(hidden, targets, weights).solutions([0.1]))
    fewer = next(sums_of(hidden[:25], targets[:25]).solutions([0.1]))
    torch.testing.assert_close(some, fewer, rtol=1e-12, atol=1e-14)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 50), max_size=5), order=st.randoms(use_true_random=False))
def test_shards_in_any_order_give_the_same_weights(cuts, order):
    hidden, targets = sample(50)
    shards = [slice(a, b) for a, b in itertools.pairwise([0, *sorted(cuts), 50])]
    order.shuffle(shards)
    merged = RidgeSums.empty(WIDTH)
    for shard in shards:
        merged.merge(sums_of(hidden[shard], targets[shard]))
    whole = sums_of(hidden, targets)
    left, right = next(whole.solutions([1e-3])), next(merged.solutions([1e-3]))
    assert (left - right).abs().max() <= 1e-9 * left.abs().max()
    assert merged.num_rows == whole.num_rows == 50


def test_a_class_added_later_does_not_move_the_others():
    hidden, targets = sample(50)
    early = sums_of(hidden, targets)
    late = sums_of(hidden, targets)
    late.grow(CLASSES + 2)
    before, after = next(early.solutions([0.1])), next(late.solutions([0.1]))
    torch.testing.assert_close(after[:CLASSES], before, rtol=1e-12, atol=1e-14)
    assert not after[CLASSES:].any()


def test_a_saved_state_comes_back_value_for_value():
    sums = sums_of(*sample(50))
    state = sums.state_dict()
    restored = RidgeSums.from_state(state)
    assert state["gram"].numel() == WIDTH * (WIDTH + 1) // 2
    assert torch.equal(next(sums.solutions([0.1])), next(restored.solutions([0.1])))
    kept = {name: tensor.clone() for name, tensor in state.items()}
    for either in (sums, restored):
        either.add(*sample(3), torch.ones(3))
    assert all(torch.equal(kept[name], state[name]) for name in state)


def test_solving_without_rows_is_refused():
    with pytest.raises(ModelError, match="needs rows"):
        next(RidgeSums.empty(WIDTH).solutions([0.1]))


def test_sums_that_do_not_fit_together_are_refused():
    state = sums_of(*sample(5)).state_dict()
    with pytest.raises(ModelError, match="12 wide"):
        RidgeSums.from_state(state | {"moment": torch.zeros(CLASSES, 7)})


def test_a_projection_depends_on_its_seed_alone():
    torch.manual_seed(1)
    first = random_projection(30, 200, seed=5)
    torch.manual_seed(2)
    torch.testing.assert_close(first, random_projection(30, 200, seed=5), rtol=0, atol=0)
    assert not torch.equal(first, random_projection(30, 200, seed=6))
    assert first.std().item() == pytest.approx(30**-0.5, rel=0.05)


def test_a_saved_version_finds_the_projection_that_it_was_solved_for():
    """Versions hold no projection: a generator that changed would break every one of them."""
    projection = random_projection(4, 5000, seed=0)
    pinned = [-0.5629199147, -0.5761801004, -0.1252892911]
    assert projection[0, :3].tolist() == pytest.approx(pinned, abs=1e-6)
    assert projection[3, -1].item() == pytest.approx(-0.2435602993, abs=1e-6)


def test_random_features_are_rectified_projections():
    projection = torch.tensor([[1.0, -1.0], [2.0, 0.0]])
    assert project(torch.tensor([[3.0, 1.0]]), projection).tolist() == [[5.0, 0.0]]


def test_a_ridge_head_scores_by_class_id_and_saves_no_projection():
    head = RidgeHead(width_in=3, width=8, seed=0)
    head.add(Task(0, "a", (0, 1)))
    head.add(Task(1, "b", (2, 3, 4)))
    assert head.num_classes == 5
    assert head.classes_of([1]) == [2, 3, 4]
    assert head.mask([1, 3], torch.device("cpu")).isinf().tolist() == [True, False] * 2 + [True]
    assert list(head.state_dict()) == ["weight"]
    head.weight.copy_(torch.arange(40.0).reshape(5, 8))
    features = torch.randn(2, 3)
    hidden = functional.relu(features @ random_projection(3, 8, 0))
    torch.testing.assert_close(head(features), hidden @ head.weight.T)


def test_growing_a_ridge_head_keeps_the_rows_that_it_has():
    head = RidgeHead(width_in=3, width=8, seed=0)
    head.add(Task(0, "a", (0, 1)))
    head.weight.fill_(7.0)
    head.add(Task(1, "b", (2, 3)))
    assert head.weight[:, 0].tolist() == [7, 7, 0, 0]
    head.add(Task(2, "again", (0, 1)))
    assert head.num_classes == 4
