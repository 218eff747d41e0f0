"""Past tasks answer bit for bit as before where a method promises it; fine-tuning forgets."""

import pytest
import torch

from tests.conformance.claims import isolating
from tests.conformance.streams import name_of, plan_of, teacher_of
from tests.tiny import TASKS

ISOLATING = [
    *isolating(),
    {"type": "columns", "width": 0.5, "max_laterals": 1},
    {"type": "adapter", "bottleneck": 4, "variant": "houlsby", "per_task": True},
    {"type": "adapter", "bottleneck": 4, "variant": "parallel", "per_task": True},
]


def after_each_stage(plan, look):
    """What `look(teacher)` gives after each stage."""
    teacher, found = teacher_of(plan), []
    measure = teacher._measure

    def looking(seen):
        found.append(look(teacher, seen))
        return measure(seen)

    teacher._measure = looking
    teacher.run()
    return found


def outputs_of_first(teacher, seen):
    """Features and own logits of the first task's held-out rows, as an evaluation sees them."""
    teacher.stack.activate(teacher.model, 0)
    rows = teacher.data.held_out[0].rows
    was_training = teacher.model.training
    teacher.model.eval()
    with torch.no_grad():
        output = teacher.model(rows.batch(range(len(rows))).inputs)
    teacher.model.train(was_training)
    teacher.stack.activate(teacher.model, seen[-1].id)
    return output.features.clone(), output.logits[:, :2].clone()


@pytest.mark.parametrize(
    "scenario", ["class_incremental", "task_incremental", "domain_incremental"]
)
@pytest.mark.parametrize("method", ISOLATING, ids=lambda method: name_of([method]))
def test_what_is_one_task_s_own_never_changes_again(tiny_model, tmp_path, method, scenario):
    tasks = TASKS
    if scenario == "domain_incremental":
        tasks = {name: ["positive", "negative"] for name in TASKS}
    plan = plan_of(tiny_model, tmp_path, [method], tasks, scenario=scenario)
    (features, logits), *later = after_each_stage(plan, outputs_of_first)
    assert len(later) == 2
    for other_features, other_logits in later:
        assert torch.equal(features, other_features)
        assert torch.equal(logits, other_logits)


def test_analytic_features_never_change(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [{"type": "analytic", "width": 64}], TASKS)
    (features, _), *later = after_each_stage(plan, outputs_of_first)
    assert all(torch.equal(features, other) for other, _ in later)


def blocks_of_first(teacher, _seen):
    return {
        name: tensor.clone()
        for name, tensor in teacher.model.heads.state_dict().items()
        if "task_000" in name
    }


@pytest.mark.parametrize("heads", [{"freeze_old_heads": True}, {"layout": "per_task"}], ids=str)
@pytest.mark.parametrize("others", [[], [{"type": "replay", "capacity": 10}, {"type": "ewc"}]])
def test_frozen_old_heads_never_change(tiny_model, tmp_path, heads, others):
    plan = plan_of(
        tiny_model,
        tmp_path,
        [{"type": "heads", **heads}, *others],
        TASKS,
        training={"weight_decay": 0.5},
    )
    first, *later = after_each_stage(plan, blocks_of_first)
    for other in later:
        assert first.keys() == other.keys()
        assert all(torch.equal(first[name], other[name]) for name in first)


def test_old_heads_that_are_not_frozen_do_change(tiny_model, tmp_path):
    first, second, _ = after_each_stage(plan_of(tiny_model, tmp_path, [], TASKS), blocks_of_first)
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_the_open_blocks_alone_move_the_rest_stays_the_base(tiny_model, tmp_path):
    plan = plan_of(
        tiny_model,
        tmp_path,
        [{"type": "freeze", "num_blocks": 1}],
        training={"weight_decay": 0.5},
    )
    base = {k: v.clone() for k, v in teacher_of(plan).model.backbone.state_dict().items()}
    teacher = teacher_of(plan)
    teacher.run()
    for name, tensor in teacher.model.backbone.state_dict().items():
        assert torch.equal(tensor, base[name]) == (not name.startswith("encoder.layer.1."))


def test_plain_fine_tuning_forgets_and_replay_does_so_less(tiny_model, tmp_path):
    settings = {"num_epochs": 12, "learning_rate": 3e-3}
    found = {}
    for name, methods in {
        "finetune": [],
        "replay": [{"type": "replay", "capacity": 24, "fraction": 0.5}],
    }.items():
        teacher = teacher_of(plan_of(tiny_model, tmp_path / name, methods, training=settings))
        teacher.run()
        learned, final = (row["banking"]["test_all"] for row in teacher.scores)
        found[name] = (learned, final)
    assert found["finetune"][0] >= 0.9
    assert found["finetune"][1] <= 0.3
    assert found["replay"][1] >= 0.7
