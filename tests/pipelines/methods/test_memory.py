from collections import Counter

import pytest
import torch

from ratchet.pipelines.methods.base import MemoryRow
from ratchet.pipelines.methods.memory import Memory
from ratchet.pipelines.types import Task
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, batch_of, context_of


def context(targets, task_ids, tasks, seen=(), inputs=None, layout="growing"):
    model = Logistic(1, layout)
    for task in (*seen, *tasks):
        model.heads.add(task)
    batch = batch_of(inputs or [1.0] * len(targets), targets, task_ids)
    return context_of(model, [batch], tasks, seen=seen)


@pytest.mark.parametrize("selection", ["class_balanced", "herding"])
def test_each_class_has_an_equal_share_and_old_classes_make_room(selection):
    memory = Memory(8, selection)
    memory.offer(context([0, 1] * 10, [0] * 20, [TASK]))
    assert Counter(row.class_id for row in memory.rows) == {0: 4, 1: 4}
    before = memory.rows
    memory.offer(context([2, 3] * 10, [1] * 20, [NEXT], seen=[TASK]))
    assert Counter(row.class_id for row in memory.rows) == {0: 2, 1: 2, 2: 2, 3: 2}
    for class_id in (0, 1):
        kept = [row for row in memory.rows if row.class_id == class_id]
        assert kept == [row for row in before if row.class_id == class_id][:2]


@pytest.mark.parametrize("selection", ["class_balanced", "herding", "reservoir"])
def test_tasks_that_share_their_classes_never_exceed_the_capacity(selection):
    memory = Memory(9, selection)
    seen = []
    for task_id in range(3):
        task = Task(task_id, f"domain {task_id}", (0, 1), task_id)
        memory.offer(context([0, 1] * 20, [task_id] * 40, [task], seen, layout="shared"))
        seen.append(task)
        assert len(memory) == 9
    if selection != "reservoir":
        assert set(Counter(row.task_id for row in memory.rows).values()) == {2, 3, 4}


def test_several_tasks_learned_jointly_enter_together():
    memory = Memory(8, "class_balanced")
    memory.offer(context([0, 1, 2, 3] * 5, [0, 0, 1, 1] * 5, [TASK, NEXT]))
    groups = Counter((row.task_id, row.class_id) for row in memory.rows)
    assert groups == {(0, 0): 2, (0, 1): 2, (1, 2): 2, (1, 3): 2}


def test_herding_keeps_the_rows_nearest_to_their_class_mean():
    # Directions 1, 1, 1 and -1 of class 0: the mean points along 1, so -1 is not kept.
    memory = Memory(2, "herding")
    ctx = context([0, 0, 0, 0, 1], [0] * 5, [TASK], inputs=[-1.0, 2.0, 3.0, 1.0, 1.0])
    memory.offer(ctx)
    (kept,) = [row.text for row in memory.rows if row.class_id == 0]
    assert kept != "0"
    assert ctx.model.training  # the pass was made without dropout and the mode put back


def test_a_memory_that_must_shrink_keeps_a_fair_sample():
    """The rows that filled a reservoir stand in order: cutting its tail would lose them all."""
    kept = Counter()
    for seed in range(300):
        memory = Memory(20, "reservoir")
        memory.restore([MemoryRow(str(index), 0, 0) for index in range(20)], 20)
        memory.resize(5, torch.Generator().manual_seed(seed))
        assert len(memory) == 5
        kept.update(int(row.text) for row in memory.rows)
    assert min(kept[index] for index in range(20)) > 40  # 75 each on average


def test_draws_are_without_replacement_and_even():
    memory = Memory(10, "reservoir")
    memory.restore([MemoryRow(str(index), 0, 0) for index in range(10)], 10)
    numbers = torch.Generator().manual_seed(0)
    drawn = Counter()
    for _ in range(500):
        chosen = memory.draw(3, numbers)
        assert len(set(chosen)) == 3
        drawn.update(chosen)
    assert all(110 < drawn[index] < 190 for index in range(10))  # 150 each on average


def test_rows_of_other_lengths_are_padded_and_masked():
    memory = Memory(2, "reservoir")
    memory.restore([MemoryRow("7", 0, 1), MemoryRow("8 9 10", 1, 2)], 2)
    ctx = context([0], [0], [TASK])
    ctx.tokenize = lambda texts: [
        torch.tensor([int(word) for word in text.split()]) for text in texts
    ]
    batch = memory.batch([0, 1], ctx)
    assert batch.inputs["input_ids"].tolist() == [[7, 0, 0], [8, 9, 10]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch.targets.tolist() == [1, 2]
    assert batch.task_ids.tolist() == [0, 1]


def test_an_offer_of_no_rows_still_makes_room_for_the_new_classes():
    memory = Memory(4, "class_balanced")
    memory.offer(context([0, 1] * 4, [0] * 8, [TASK]))
    empty = context([0], [0], [NEXT], seen=[TASK])
    empty.batches = lambda: iter(())
    memory.offer(empty)
    assert Counter(row.class_id for row in memory.rows) == {0: 1, 1: 1}
    assert memory.num_seen == 8
