import pytest
import torch
from torch.nn import functional

from ratchet.pipelines.models.heads import CosineBlock, Heads, loss_mask
from ratchet.pipelines.types import Task

TASKS = (Task(0, "a", (0, 1)), Task(1, "b", (2, 3)), Task(2, "c", (4, 5)))
INF = float("inf")


def heads_with(layout, tasks=TASKS, **options):
    heads = Heads(3, layout, **options)
    for task in tasks:
        heads.add(task)
    return heads


def test_columns_are_class_ids():
    heads = heads_with("growing")
    features = torch.randn(4, 3)
    wanted = [heads.blocks[f"task_00{task}"](features) for task in range(3)]
    assert torch.equal(heads(features), torch.cat(wanted, dim=-1))


def test_a_shared_head_has_one_block_for_all_tasks():
    tasks = (Task(0, "a", (0, 1)), Task(1, "b", (0, 1)))
    heads = heads_with("shared", tasks)
    assert list(heads.blocks) == ["shared"]
    assert heads.num_classes == 2
    assert heads.task_classes == {0: (0, 1), 1: (0, 1)}


def test_cosine_logits_do_not_depend_on_lengths():
    block = CosineBlock(3, 2, 16.0)
    features = torch.randn(5, 3)
    cosines = functional.cosine_similarity(features[:, None], block.weight[None], dim=-1)
    torch.testing.assert_close(block(features), 16.0 * cosines)
    with torch.no_grad():
        wanted = block(features)
        block.weight[0] *= 7.0
        torch.testing.assert_close(block(3.0 * features), wanted)


@pytest.mark.parametrize(
    ("layout", "options", "seen", "row"),
    [
        ("growing", {}, [0, 1], [0, 0, 0, 0, -INF, -INF]),
        ("growing", {}, [0], [0, 0, -INF, -INF, -INF, -INF]),
        ("per_task", {}, [0, 1], [-INF, -INF, 0, 0, -INF, -INF]),
        ("per_task", {}, [0, 1, 2], [-INF, -INF, 0, 0, -INF, -INF]),
    ],
)
def test_classes_that_do_not_compete_are_closed(layout, options, seen, row):
    mask = loss_mask(heads_with(layout, **options), seen, torch.tensor([1]))
    assert mask.tolist() == [row]


def test_every_row_of_a_mixed_batch_has_the_classes_of_its_own_task():
    mask = loss_mask(heads_with("per_task"), [0, 1, 2], torch.tensor([2, 0]))
    assert torch.isfinite(mask).tolist() == [
        [False, False, False, False, True, True],
        [True, True, False, False, False, False],
    ]


@pytest.mark.parametrize(
    ("layout", "options", "tasks", "seen"),
    [
        ("growing", {}, TASKS, [0, 1, 2]),
        ("growing", {"open_future": True}, TASKS, [0]),
        ("shared", {}, TASKS[:1], [0]),
    ],
)
def test_where_all_compete_there_is_no_mask(layout, options, tasks, seen):
    heads = heads_with(layout, tasks, **options)
    assert loss_mask(heads, seen, torch.tensor([0])) is None
