from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ratchet.pipelines.methods.selection import class_quotas, herding, reservoir


def kept_rows(num_rows, capacity, generator, sizes=None):
    """The row in each slot after all rows were offered, in calls of the given sizes."""
    memory = [-1] * capacity
    seen = 0
    for size in sizes or [num_rows]:
        for offset, slot in enumerate(reservoir(seen, size, capacity, generator).tolist()):
            if slot >= 0:
                memory[slot] = seen + offset
        seen += size
    return memory


def chi_square(counts, expected):
    return sum((count - expected) ** 2 / expected for count in counts)


@pytest.mark.parametrize("sizes", [[20], [7, 13], [1] * 20])
def test_every_row_is_kept_equally_often(sizes):
    generator = torch.Generator().manual_seed(0)
    trials, rows, capacity = 1500, 20, 4
    counts = [0] * rows
    for _ in range(trials):
        for row in kept_rows(rows, capacity, generator, sizes):
            counts[row] += 1
    # 19 degrees of freedom: above 43.8 once in a thousand. A draw from one slot fewer
    # or more than n gives 89 and 55 here.
    assert chi_square(counts, trials * capacity / rows) < 43.8


def test_every_set_of_rows_is_kept_equally_often():
    generator = torch.Generator().manual_seed(1)
    trials = 3000
    counts = dict.fromkeys(itertools.combinations(range(5), 2), 0)
    for _ in range(trials):
        counts[tuple(sorted(kept_rows(5, 2, generator)))] += 1
    # 9 degrees of freedom: above 27.9 once in a thousand.
    assert chi_square(counts.values(), trials / 10) < 27.9


def test_the_last_row_may_take_any_slot_and_is_kept_with_capacity_over_n():
    generator = torch.Generator().manual_seed(2)
    slots = torch.stack([reservoir(9, 1, 3, generator)[0] for _ in range(5000)])
    for slot in range(3):
        assert (slots == slot).float().mean().item() == pytest.approx(0.1, abs=0.015)


@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(0, 30), max_size=5),
    capacity=st.integers(0, 20),
    seed=st.integers(0, 2**31),
)
def test_the_memory_is_filled_and_never_exceeded(sizes, capacity, seed):
    generator = torch.Generator().manual_seed(seed)
    seen = 0
    for size in sizes:
        slots = reservoir(seen, size, capacity, generator)
        assert slots.shape == (size,)
        assert ((slots >= -1) & (slots < capacity)).all()
        seen += size
    memory = kept_rows(sum(sizes), capacity, generator, sizes or [0])
    kept = [row for row in memory if row >= 0]
    assert len(kept) == len(set(kept)) == min(capacity, sum(sizes))


def test_the_same_generator_state_chooses_the_same_rows():
    first, second = (torch.Generator().manual_seed(5) for _ in range(2))
    assert torch.equal(reservoir(10, 50, 8, first), reservoir(10, 50, 8, second))


@given(capacity=st.integers(0, 50), num_classes=st.integers(1, 20))
def test_quotas_are_even_fill_the_capacity_and_leave_no_class_out(capacity, num_classes):
    quotas = class_quotas(capacity, range(100, 100 + num_classes))
    assert sum(quotas.values()) == capacity
    assert max(quotas.values()) - min(quotas.values()) <= 1
    assert len(quotas) == num_classes
    if capacity >= num_classes:
        assert min(quotas.values()) >= 1


def test_no_classes_have_no_quota():
    assert class_quotas(5, []) == {}


def test_herding_follows_the_mean_worked_by_hand():
    # Unit vectors at 0, 60 and 120 degrees: the mean points to 60. After it, 0 and 120 tie, so 0
    # (first), then 120.
    angles = torch.deg2rad(torch.tensor([0.0, 60.0, 120.0]))
    features = 5.0 * torch.stack([angles.cos(), angles.sin()], dim=1)
    assert herding(features, 3).tolist()[0] == 1
    assert sorted(herding(features, 3).tolist()) == [0, 1, 2]


def test_each_herded_row_is_the_best_next_one():
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    rows = torch.nn.functional.normalize(features, dim=-1)
    order = herding(features, 6).tolist()
    for place in range(6):
        gaps = {
            row: (rows[[*order[:place], row]].mean(0) - rows.mean(0)).norm().item()
            for row in range(12)
            if row not in order[:place]
        }
        assert gaps[order[place]] == pytest.approx(min(gaps.values()), abs=1e-6)


@pytest.mark.parametrize("count", [0, 3, 7, 20])
def test_herding_gives_distinct_rows_and_prefixes_agree(count):
    features = torch.randn(7, 3, generator=torch.Generator().manual_seed(1))
    order = herding(features, count).tolist()
    assert len(order) == len(set(order)) == min(count, 7)
    assert order == herding(features, 7).tolist()[:count]
