import pytest
import torch

from ratchet.pipelines.methods.heads import Heads
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.spec.methods.isolation import HeadsConfig
from ratchet.pipelines.types import Task
from tests.pipelines.methods.contexts import context_of

TASKS = (Task(0, "a", (0, 1), 0), Task(1, "b", (2, 3), 1), Task(2, "c", (4, 5), 2))


def headed(folder, tasks=TASKS, **settings):
    model = load_classifier(str(folder))
    heads = Heads(HeadsConfig(**({"layout": "growing"} | settings)))
    for task in tasks:
        heads.expand(model, task)
    return model, heads


def open_blocks(model):
    return {name for name, block in model.heads.blocks.items() if block.weight.requires_grad}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["task_000", "task_001", "task_002"]),
        ({"freeze_old_heads": True}, ["task_002"]),
        ({"layout": "per_task"}, ["task_002"]),
    ],
    ids=str,
)
def test_which_blocks_train_in_the_third_task(tiny_model, settings, expected):
    model, heads = headed(tiny_model, **settings)
    heads.begin_epoch(context_of(model, [], [TASKS[2]], seen=TASKS[:2]))
    assert sorted(open_blocks(model)) == expected


def test_the_one_head_of_all_domains_trains_on(tiny_model):
    tasks = tuple(Task(index, str(index), (0, 1), index) for index in range(3))
    model, heads = headed(tiny_model, tasks, layout="shared", freeze_old_heads=True)
    heads.begin_epoch(context_of(model, [], [tasks[2]], seen=tasks[:2]))
    assert open_blocks(model) == {"shared"}
    assert model.heads.num_classes == 2


def test_blocks_for_tasks_to_come_are_made_at_once_and_kept(tiny_model):
    model, heads = headed(tiny_model, tasks=(), preallocate=True)
    heads.foresee(model, TASKS)
    assert model.heads.num_classes == 6
    before = model.heads.blocks["task_001"].weight.clone()
    heads.expand(model, TASKS[1])
    assert torch.equal(model.heads.blocks["task_001"].weight, before)
    assert model.heads.open_future


def test_nothing_is_foreseen_without_being_asked_to(tiny_model):
    model, heads = headed(tiny_model, tasks=TASKS[:1])
    heads.foresee(model, TASKS)
    assert model.heads.num_classes == 2


def test_growing_changes_no_older_block(tiny_model):
    model, heads = headed(tiny_model, tasks=TASKS[:1])
    before = {name: t.clone() for name, t in model.heads.state_dict().items()}
    heads.expand(model, TASKS[1])
    after = model.heads.state_dict()
    assert len(after) == 4
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
