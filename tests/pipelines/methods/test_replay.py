"""Covers, beside `replay`: `rehearsal`."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.methods.base import MemoryRow, MethodState
from ratchet.pipelines.methods.rehearsal import share_of
from ratchet.pipelines.methods.replay import Replay
from ratchet.pipelines.spec.methods.replay import ReplayConfig
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, RankOf, batch_of, context_of


def replay_with(num_rows, **settings):
    replay = Replay(ReplayConfig(**settings))
    rows = [MemoryRow(str(100 + index), 0, index % 2) for index in range(num_rows)]
    replay.load_state_dict(MethodState(values={"num_seen": num_rows, "owed": 0.0}, rows=rows))
    return replay


def context(batches=(), workers=None, seen=(TASK,), tasks=(NEXT,)):
    model = Logistic(1)
    for task in (*seen, *tasks):
        model.heads.add(task)
    return context_of(model, list(batches), tasks, seen=seen, workers=workers)


@pytest.mark.parametrize("fraction", [0.1, 0.25, 0.5, 0.75])
@pytest.mark.parametrize("size", [1, 2, 7, 16, 32])
def test_remembered_rows_make_up_the_fraction_over_time(fraction, size):
    replay, ctx = replay_with(200, fraction=fraction), context()
    new = remembered = 0
    for ctx.step in range(300):
        batch = replay.extend_batch(ctx, batch_of([1.0] * size, [2] * size))
        new += size
        remembered += len(batch) - size
    wanted = new * fraction / (1 - fraction)
    assert wanted - 1 <= remembered <= wanted + 1e-6


def test_a_mixed_batch_keeps_the_new_rows_first_and_names_the_others():
    replay, ctx = replay_with(50, fraction=0.5), context()
    batch = replay.extend_batch(ctx, batch_of([1.0, 2.0, 3.0], [2, 3, 2], [1, 1, 1]))
    assert batch.parts == {"new": slice(0, 3), "replay": slice(3, 6)}
    assert batch.rows.tolist() == [0, 1, 2, -1, -1, -1]
    texts = [str(int(token)) for token in batch.inputs["input_ids"][3:, 0]]
    assert len(set(texts)) == 3
    by_text = {row.text: row for row in replay.memory.rows}
    assert batch.targets[3:].tolist() == [by_text[text].class_id for text in texts]
    assert batch.task_ids[3:].tolist() == [0, 0, 0]


@pytest.mark.parametrize(("every", "mixed"), [(1, {0, 1, 2, 3, 4, 5}), (3, {0, 3})])
def test_periodic_rehearsal_mixes_every_kth_step(every, mixed):
    replay, ctx = replay_with(50, fraction=0.5, every_steps=every), context()
    found = set()
    for ctx.step in range(6):
        if len(replay.extend_batch(ctx, batch_of([1.0, 1.0], [2, 2]))) > 2:
            found.add(ctx.step)
    assert found == mixed


@pytest.mark.parametrize("settings", [{"capacity": 0}, {"fraction": 0.0}])
def test_nothing_is_drawn_at_zero(settings):
    replay = Replay(ReplayConfig(**settings))
    batches = [batch_of([1.0] * 4, [0, 1, 0, 1])]
    replay.end_task(context(batches, seen=(), tasks=(TASK,)))
    ctx = context()
    state = ctx.generator.get_state()
    batch = batch_of([1.0, 1.0], [2, 2])
    assert replay.extend_batch(ctx, batch) is batch
    assert torch.equal(ctx.generator.get_state(), state)


def test_a_small_memory_is_drawn_from_whole():
    replay, ctx = replay_with(2, fraction=0.75), context()
    assert len(replay.extend_batch(ctx, batch_of([1.0] * 4, [2] * 4))) == 6


@given(st.integers(0, 50), st.integers(1, 7))
def test_shares_sum_to_the_total_and_differ_by_one(total, world_size):
    shares = [share_of(total, rank, world_size) for rank in range(world_size)]
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


@given(st.integers(0, 40), st.integers(1, 5), st.integers(1, 5), st.integers(0, 200))
def test_merged_and_sharded_again_no_row_is_lost_and_none_doubled(size, before, after, extra):
    replay = Replay(ReplayConfig(capacity=40))
    rows = [MemoryRow(str(index), 0, 0) for index in range(size)]
    seen = size + extra
    states = [
        MethodState({}, {"num_seen": share_of(seen, rank, before), "owed": 0.5}, rows[rank::before])
        for rank in range(before)
    ]
    merged = replay.merge_states(states)
    assert sorted(merged.rows, key=str) == sorted(rows, key=str)
    shards = [replay.shard_state(merged, rank, after) for rank in range(after)]
    assert Counter(row for shard in shards for row in shard.rows) == Counter(rows)
    assert sum(shard.values["num_seen"] for shard in shards) == seen
    capacities = [share_of(40, rank, after) for rank in range(after)]
    assert all(len(s.rows) <= c for s, c in zip(shards, capacities, strict=True))


def test_every_worker_remembers_its_share_of_its_own_rows():
    found = []
    for rank in range(3):
        replay = Replay(ReplayConfig(capacity=10))
        numbers = range(rank, 60, 3)
        batches = [batch_of([1.0] * 20, [0, 1] * 10)]
        ctx = context(batches, RankOf(rank, 3), seen=(), tasks=(TASK,))
        ctx.texts = lambda rows, numbers=numbers: [str(numbers[row]) for row in rows]
        replay.end_task(ctx)
        texts = [row.text for row in replay.memory.rows]
        assert {int(text) % 3 for text in texts} == {rank}
        found += texts
    assert len(found) == len(set(found)) == 10


def test_the_count_of_rows_seen_and_the_random_numbers_survive_saving():
    """A memory that forgot how many rows it was offered would favour the newest task."""
    first = [batch_of([1.0] * 60, [0, 1] * 30)]
    second = [batch_of([1.0] * 40, [2, 3] * 20, [1] * 40)]
    undisturbed, restored = (Replay(ReplayConfig(capacity=15)) for _ in range(2))
    ctx = context(first, seen=(), tasks=(TASK,))
    undisturbed.end_task(ctx)
    assert undisturbed.state_dict().values["num_seen"] == 60
    numbers = ctx.generator.get_state()
    restored.load_state_dict(undisturbed.state_dict())
    found = []
    for replay in (undisturbed, restored):
        again = context(second)
        again.generator.set_state(numbers)
        replay.end_task(again)
        found.append(replay.state_dict())
    assert found[0] == found[1]
    assert found[0].values["num_seen"] == 100
    tasks = Counter(row.task_id for row in found[0].rows)
    assert tasks[0] > tasks[1] > 0 or tasks[0] >= 6  # 60 of 100 rows were the first task's


def test_over_many_memories_tasks_are_kept_as_often_as_they_were_offered():
    first = [batch_of([1.0] * 60, [0, 1] * 30)]
    second = [batch_of([1.0] * 40, [2, 3] * 20, [1] * 40)]
    kept = Counter()
    for seed in range(200):
        replay = Replay(ReplayConfig(capacity=10))
        for ctx in (context(first, seen=(), tasks=(TASK,)), context(second)):
            ctx.generator.manual_seed(2 * seed + ctx.task.id)
            replay.end_task(ctx)
        kept.update(row.task_id for row in replay.memory.rows)
    assert kept[0] / 2000 == pytest.approx(0.6, abs=0.04)
