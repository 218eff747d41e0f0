"""Covers, beside `router_statistics`: `prototype_router`."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.router_statistics import RouterStatistics

WIDTH = 6
CLASS_TASKS = torch.tensor([0, 0, 1, 2, 2])


def sample(num_rows, seed=0, num_classes=5):
    generator = torch.Generator().manual_seed(seed)
    class_ids = torch.randint(num_classes, (num_rows,), generator=generator)
    means = 3 * torch.randn(num_classes, WIDTH, generator=torch.Generator().manual_seed(99))
    mix = torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(98))
    return means[class_ids] + torch.randn(num_rows, WIDTH, generator=generator) @ mix, class_ids


def statistics_of(features, class_ids, num_classes=5):
    statistics = RouterStatistics.empty(features.shape[1])
    statistics.add(features, class_ids, num_classes)
    return statistics


def assert_same(left, right, tolerance=1e-6):
    for name, tensor in left.state_dict().items():
        other = right.state_dict()[name]
        assert (tensor - other).abs().max() <= tolerance * tensor.abs().max(), name


def scores_by_hand(rows, labels, queries):
    """Distances, background distance by dense inverses in float64, from the definitions."""
    classes, width = labels.max() + 1, rows.shape[1]
    means = np.stack([rows[labels == c].mean(axis=0) for c in range(classes)])
    shares = np.bincount(labels) / len(labels)
    centered = rows - means[labels]
    freedom = len(rows) - classes
    within = centered.T @ centered / freedom
    mu = np.trace(within) / width
    squares, trace = np.trace(within @ within), np.trace(within)
    share = ((1 - 2 / width) * squares + trace**2) / (
        (freedom + 1 - 2 / width) * (squares - trace**2 / width)
    )
    within = (1 - min(1, share)) * within + min(1, share) * mu * np.eye(width)
    center = rows.mean(axis=0)
    total = within + sum(
        p * np.outer(m - center, m - center) for p, m in zip(shares, means, strict=True)
    )
    away = queries[:, None] - means
    distances = np.einsum("ncd,de,nce->nc", away, np.linalg.inv(within), away)
    away = queries - center
    return distances, np.einsum("nd,de,ne->n", away, np.linalg.inv(total), away)


@pytest.mark.parametrize("num_rows", [12, 40, 400])
def test_scores_equal_the_definitions(num_rows):
    features, class_ids = sample(num_rows)
    class_ids[:5] = torch.arange(5)
    queries, _ = sample(30, seed=1)
    scores = statistics_of(features, class_ids).fit(CLASS_TASKS).scores(queries)
    distances, background = scores_by_hand(
        features.double().numpy(), class_ids.numpy(), queries.double().numpy()
    )
    np.testing.assert_allclose(scores.class_distances.numpy(), distances, rtol=2e-4, atol=1e-2)
    np.testing.assert_allclose(
        scores.in_scope.numpy(), 0.9 * background - distances.min(axis=1), rtol=2e-4, atol=1e-2
    )
    mass = np.exp(-distances / 48)
    by_task = np.stack([mass[:, CLASS_TASKS.numpy() == t].sum(axis=1) for t in range(3)], axis=1)
    by_task /= by_task.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(scores.task_scores.exp().numpy(), by_task, atol=1e-4)
    top = np.sort(by_task, axis=1)
    np.testing.assert_allclose(scores.margin.numpy(), top[:, -1] - top[:, -2], atol=1e-4)


@settings(max_examples=25)
@given(cuts=st.lists(st.integers(0, 60), max_size=5), order=st.randoms(use_true_random=False))
def test_shards_in_any_order_sum_to_the_whole(cuts, order):
    features, class_ids = sample(60)
    bounds = [0, *sorted(cuts), 60]
    shards = [slice(a, b) for a, b in itertools.pairwise(bounds)]
    order.shuffle(shards)
    merged = RouterStatistics.empty(WIDTH)
    for shard in shards:
        merged.merge(statistics_of(features[shard], class_ids[shard]))
    assert merged.num_rows == 60
    assert_same(statistics_of(features, class_ids), merged)


def test_summing_the_exposed_tensors_in_place_is_a_merge():
    features, class_ids = sample(60)
    left, right = (
        statistics_of(features[:20], class_ids[:20]),
        statistics_of(features[20:], class_ids[20:]),
    )
    for mine, other in zip(left.tensors(), right.tensors(), strict=True):
        mine += other
    assert_same(statistics_of(features, class_ids), left)


def test_a_later_task_goes_live_by_adding_its_numbers():
    features, class_ids = sample(200)
    first = class_ids < 3
    grown = statistics_of(features[first], class_ids[first], num_classes=3)
    grown.merge(statistics_of(features[~first], class_ids[~first]))
    queries, _ = sample(20, seed=3)
    whole = statistics_of(features, class_ids).fit(CLASS_TASKS).scores(queries)
    later = grown.fit(CLASS_TASKS).scores(queries)
    torch.testing.assert_close(whole.task_scores, later.task_scores, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(whole.in_scope, later.in_scope, rtol=1e-4, atol=1e-3)


def test_a_saved_state_comes_back_value_for_value():
    statistics = statistics_of(*sample(50))
    assert_same(statistics, RouterStatistics.from_state(statistics.state_dict()), tolerance=0)


def test_restored_statistics_do_not_share_memory_with_the_saved_ones():
    statistics = statistics_of(*sample(50))
    state = statistics.state_dict()
    before = {name: tensor.clone() for name, tensor in state.items()}
    RouterStatistics.from_state(state).add(*sample(5, seed=4), num_classes=5)
    assert all(torch.equal(before[name], state[name]) for name in state)


def test_a_class_without_rows_is_never_chosen():
    features, class_ids = sample(100, num_classes=3)
    scores = statistics_of(features, class_ids).fit(CLASS_TASKS).scores(features)
    assert torch.isinf(scores.class_distances[:, 3:]).all()
    assert torch.isneginf(scores.task_scores[:, 2]).all()
    assert not torch.isnan(scores.task_scores).any()
    torch.testing.assert_close(scores.task_scores.exp().sum(dim=1), torch.ones(100))


@pytest.mark.parametrize("num_rows", [1, 2, 50])
def test_one_class_of_one_task_tells_near_from_far(num_rows):
    features = torch.randn(num_rows, WIDTH, generator=torch.Generator().manual_seed(0))
    statistics = statistics_of(features, torch.zeros(num_rows, dtype=torch.int64), num_classes=1)
    router = statistics.fit(torch.tensor([0]))
    scores = router.scores(torch.cat([features.mean(dim=0)[None], features[:1] + 100]))
    assert scores.in_scope[0] > scores.in_scope[1]
    assert scores.task_scores.tolist() == [[0.0], [0.0]]
    assert scores.margin.tolist() == [1.0, 1.0]


def test_classes_of_one_row_each_lead_to_themselves():
    features = 5 * torch.eye(4, WIDTH)
    router = statistics_of(features, torch.arange(4), 4).fit(torch.tensor([0, 1, 2, 3]))
    assert router.scores(features).class_distances.argmin(dim=1).tolist() == [0, 1, 2, 3]


def test_far_rows_are_out_of_scope_with_fewer_rows_than_width():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(4, 64, generator=generator)
    class_ids = torch.arange(4).repeat(5)
    features = means[class_ids] + 0.1 * torch.randn(20, 64, generator=generator)
    router = statistics_of(features, class_ids, 4).fit(torch.tensor([0, 0, 1, 1]))
    inside = router.scores(means + 0.1 * torch.randn(4, 64, generator=generator)).in_scope
    outside = router.scores(torch.randn(50, 64, generator=generator)).in_scope
    assert inside.min() > outside.max()


@pytest.mark.parametrize(
    ("accept", "accepted"), [(0.95, 95), (0.5, 50), (1.0, 100), (0.991, 100), (1e-6, 1)]
)
def test_a_threshold_accepts_at_least_the_share_asked_for(accept, accepted):
    router = statistics_of(*sample(300)).fit(CLASS_TASKS)
    validation, _ = sample(100, seed=7)
    threshold = router.calibrate(validation, accept)
    assert int((router.scores(validation).in_scope >= threshold).sum()) == accepted


def test_a_router_moves_as_a_whole():
    router = statistics_of(*sample(50)).fit(CLASS_TASKS).to("meta")
    assert {tensor.device.type for tensor in vars(router).values()} == {"meta"}


def test_misuse_is_refused_with_the_reason():
    statistics = RouterStatistics.empty(WIDTH)
    with pytest.raises(ModelError, match="at least one row"):
        statistics.fit(torch.zeros(0, dtype=torch.int64))
    statistics.add(*sample(20), num_classes=5)
    with pytest.raises(ModelError, match="3 wide"):
        statistics.add(torch.zeros(1, 3), torch.tensor([0]), 5)
    with pytest.raises(ModelError, match="span 7 to 7"):
        statistics.add(torch.zeros(1, WIDTH), torch.tensor([7]), 5)
    with pytest.raises(ModelError, match="3 wide, and the router statistics 6"):
        statistics.merge(RouterStatistics.empty(3))
    with pytest.raises(ModelError, match="of 2 classes, and there are 5"):
        statistics.fit(torch.tensor([0, 1]))
    with pytest.raises(ModelError, match="second_moment"):
        RouterStatistics.from_state({"counts": torch.zeros(1), "sums": torch.zeros(1, 2)})
    with pytest.raises(ModelError, match="do not fit together"):
        RouterStatistics.from_state(statistics.state_dict() | {"counts": torch.zeros(2)})
    router = statistics.fit(CLASS_TASKS)
    with pytest.raises(ModelError, match="accept_fraction"):
        router.calibrate(torch.zeros(1, WIDTH), 0.0)
    with pytest.raises(ModelError, match="there are none"):
        router.calibrate(torch.zeros(0, WIDTH), 0.95)
