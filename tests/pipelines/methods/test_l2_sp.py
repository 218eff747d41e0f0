import pytest
import torch

from ratchet.pipelines.methods.l2_sp import L2Sp
from ratchet.pipelines.spec.methods.regularization import L2SpConfig
from tests.conformance.streams import plan_of, problems_of, taught, teacher_of
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, batch_of, context_of

BATCH = batch_of([1.0], [0])


def two_tasks(**settings):
    """A stage has ended, its weights have moved on, and the next task's block is there."""
    model = Logistic(1)
    model.heads.add(TASK)
    l2_sp = L2Sp(L2SpConfig(towards="last", **settings))
    ctx = context_of(model, [], [TASK])
    l2_sp.begin_epoch(ctx)
    l2_sp.edit_gradients(ctx, BATCH)
    assert all(parameter.grad is None for parameter in model.parameters())
    l2_sp.end_task(ctx)
    model.heads.add(NEXT)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.25)
    return model, l2_sp, context_of(model, [], [NEXT], seen=[TASK])


def test_towards_the_last_task_old_weights_are_pulled_and_new_ones_are_free():
    model, l2_sp, ctx = two_tasks(strength=8.0)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    l2_sp.edit_gradients(ctx, BATCH)
    for name, parameter in model.named_parameters():
        expected = 1.0 + 8.0 * 0.25 if "task_000" in name else 1.0
        torch.testing.assert_close(parameter.grad, torch.full_like(parameter, expected))


def test_weights_without_a_gradient_are_pulled_and_frozen_ones_are_not():
    model, l2_sp, ctx = two_tasks(strength=8.0)
    block = model.heads.blocks["task_000"]
    block.bias.requires_grad_(False)
    l2_sp.edit_gradients(ctx, BATCH)
    torch.testing.assert_close(block.weight.grad, torch.full((2, 1), 2.0))
    assert block.bias.grad is None


def test_the_last_weights_survive_saving_and_do_not_follow_the_live_ones():
    model, l2_sp, ctx = two_tasks(strength=8.0)
    other = L2Sp(L2SpConfig(towards="last", strength=8.0))
    other.load_state_dict(l2_sp.state_dict())
    found = []
    for method in (l2_sp, other):
        model.zero_grad()
        method.edit_gradients(ctx, BATCH)
        found.append(model.heads.blocks["task_000"].weight.grad.clone())
    assert torch.equal(*found)
    assert float(found[0].abs().sum()) > 0


def test_towards_pretrained_the_backbone_is_pulled_to_the_base_and_heads_are_free(
    tiny_model, tmp_path
):
    teacher = teacher_of(plan_of(tiny_model, tmp_path, [{"type": "l2_sp", "strength": 4.0}]))
    stage = teacher.job.stages[0]
    teacher._expand(stage)
    ctx, l2_sp = teacher._context(stage), teacher.stack.methods["l2_sp"]
    with torch.no_grad():
        for parameter in teacher.model.parameters():
            parameter.add_(0.25)
    l2_sp.begin_epoch(ctx)
    l2_sp.edit_gradients(ctx, BATCH)
    for name, parameter in teacher.model.named_parameters():
        if name.startswith("backbone."):
            wanted = torch.full_like(parameter, 4.0 * 0.25)
            torch.testing.assert_close(parameter.grad, wanted, rtol=1e-4, atol=1e-5)
        else:
            assert parameter.grad is None
    assert l2_sp.state_dict().tensors == {}


@pytest.mark.parametrize("towards", ["pretrained", "last"])
def test_a_stronger_pull_leaves_the_backbone_nearer(tiny_model, tmp_path, towards):
    """Adam scales gradients, so a huge strength makes steps that are nothing but the pull."""
    far = {}
    for strength in (0.0, 1e3):
        methods = [{"type": "l2_sp", "strength": strength, "towards": towards}]
        teacher = taught(plan_of(tiny_model, tmp_path / str(strength), methods))
        base = dict(teacher.model.load_base().named_parameters(prefix="backbone"))
        apart = [p - base[name] for name, p in teacher.model.named_parameters() if name in base]
        far[strength] = sum(float(way.detach().square().sum()) for way in apart)
    assert far[1e3] < 0.7 * far[0.0]


def test_a_frozen_base_needs_no_pull_and_the_stack_is_refused():
    lora, l2_sp = {"type": "lora"}, {"type": "l2_sp"}
    (problem,) = problems_of([lora, l2_sp])
    assert problem.where == "methods[1]"
    assert "freezes the base model's weights" in problem.message
    assert problems_of([lora, l2_sp | {"towards": "last"}]) == []
