import pytest
import torch
from torch import nn

from ratchet.pipelines.methods.si import Si
from ratchet.pipelines.spec.methods.regularization import SiConfig
from ratchet.pipelines.types import Task
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, batch_of, context_of

BATCH = batch_of([1.0], [0])
RATE = 0.1
DAMPING = 0.01


class Lines(nn.Module):
    """A model that is nothing but its weights."""

    def __init__(self, **values):
        super().__init__()
        for name, value in values.items():
            setattr(self, name, nn.Parameter(torch.tensor(value)))

    def trainable(self):
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def context(model, first=True):
    return context_of(model, [], [TASK] if first else [NEXT], seen=[] if first else [TASK])


def step(si, ctx, gradients, rate=RATE):
    """One step of gradient descent with known gradients, hook after hook as the loop calls them."""
    for name, parameter in ctx.model.trainable().items():
        parameter.grad = None if gradients.get(name) is None else torch.tensor(gradients[name])
    si.watch_gradients(ctx, BATCH)
    si.edit_gradients(ctx, BATCH)
    with torch.no_grad():
        for parameter in ctx.model.trainable().values():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=rate)
    si.correct_weights(ctx)


def learned(gradients, strength=3.0):
    """A stage of the weight w = [2, -1] under these gradients, and its method."""
    si, model = Si(SiConfig(strength=strength, damping=DAMPING)), Lines(w=[2.0, -1.0])
    ctx = context(model)
    si.begin_task(ctx)
    for gradient in gradients:
        step(si, ctx, {"w": gradient})
    si.end_task(ctx)
    return si, model


def test_importance_is_the_work_done_over_the_way_gone():
    # Steps of -0.1 g: the work of a step is 0.1 g^2, the way the sum of the steps.
    si, model = learned([[1.0, -2.0], [3.0, 2.0]])
    work = torch.tensor([0.1 * (1 + 9), 0.1 * (4 + 4)])
    way = torch.tensor([-0.4, 0.0])
    torch.testing.assert_close(si.penalty.importance["w"], work / (way.square() + DAMPING))
    torch.testing.assert_close(model.w.detach(), torch.tensor([2.0, -1.0]) + way)
    assert torch.equal(si.penalty.center["w"], model.w)


def test_the_pull_is_twice_the_strength_times_the_importance():
    si, model = learned([[1.0, -2.0]])
    omega = torch.tensor([0.1 / (0.01 + DAMPING), 0.4 / (0.04 + DAMPING)])
    with torch.no_grad():
        model.w.add_(torch.tensor([0.5, -0.25]))
    model.w.grad = torch.ones(2)
    si.edit_gradients(context(model, first=False), BATCH)
    expected = 1.0 + 2 * 3.0 * omega * torch.tensor([0.5, -0.25])
    torch.testing.assert_close(model.w.grad, expected)
    apart = model.w.detach() - si.penalty.center["w"]
    derivative = torch.func.grad(lambda w: 3.0 * (omega * w.square()).sum())(apart)
    torch.testing.assert_close(model.w.grad - 1.0, derivative)


def test_movement_against_the_gradient_earns_nothing_and_never_less():
    si, model = Si(SiConfig(damping=DAMPING)), Lines(w=[1.0])
    ctx = context(model)
    si.begin_task(ctx)
    step(si, ctx, {"w": [2.0]}, rate=-RATE)  # uphill: -g * movement is negative
    si.end_task(ctx)
    assert si.penalty.importance["w"].item() == 0.0


def test_the_penalty_is_no_part_of_the_gradient_that_is_summed():
    si, model = learned([[1.0, 0.0]])
    first = si.penalty.importance["w"].clone()
    ctx = context(model, first=False)
    si.begin_task(ctx)
    step(si, ctx, {"w": [1.0, 0.0]})
    before = model.w.detach().clone()
    step(si, ctx, {"w": [1.0, 0.0]})  # away from the anchor by now: the penalty pulls
    moved = model.w.detach() - before
    assert moved[0].item() != pytest.approx(-0.1)
    si.end_task(ctx)
    way = model.w.detach()[0] - 1.9
    work = 0.1 * 1.0 - 1.0 * moved[0]  # the whole movement, the task's gradient alone
    added = work.clamp(min=0) / (way.square() + DAMPING)
    torch.testing.assert_close(si.penalty.importance["w"][0], first[0] + added)


def test_importances_add_up_over_tasks_and_the_anchor_moves():
    si, model = learned([[1.0, 1.0]], strength=1e-9)
    first = si.penalty.importance["w"].clone()
    ctx = context(model, first=False)
    si.begin_task(ctx)
    step(si, ctx, {"w": [1.0, 1.0]})
    si.end_task(ctx)
    torch.testing.assert_close(si.penalty.importance["w"], 2 * first)
    assert torch.equal(si.penalty.center["w"], model.w)


def test_weights_that_come_later_are_summed_from_when_they_come():
    si, model = learned([[1.0, 1.0]])
    model.block = nn.Parameter(torch.tensor([5.0]))
    ctx = context(model, first=False)
    si.begin_task(ctx)
    step(si, ctx, {"w": None, "block": [2.0]})
    si.end_task(ctx)
    expected = torch.tensor([0.1 * 4 / (0.04 + DAMPING)])
    torch.testing.assert_close(si.penalty.importance["block"], expected)
    assert si.penalty.importance["w"].tolist() == pytest.approx([0.1 / 0.02] * 2)


def test_weights_frozen_within_a_stage_keep_what_they_earned_and_frozen_ones_get_nothing():
    si, model = Si(SiConfig(damping=DAMPING)), Lines(early=[1.0], never=[1.0])
    model.never.requires_grad_(False)
    ctx = context(model)
    si.begin_task(ctx)
    step(si, ctx, {"early": [1.0]})
    model.early.requires_grad_(False)
    model.early.grad = None
    step(si, ctx, {})
    si.end_task(ctx)
    assert si.penalty.importance.keys() == {"early"}
    assert si.penalty.importance["early"].item() == pytest.approx(0.1 / 0.02)


def test_what_moves_the_weights_after_a_step_is_in_no_sum():
    """Nor may a worker that had no rows in the last step see it: the ranks would drift apart."""
    si, model = Si(SiConfig(damping=DAMPING)), Lines(w=[1.0])
    ctx = context(model)
    si.begin_task(ctx)
    step(si, ctx, {"w": [2.0]})
    before = si.state_dict().tensors["path/w"]
    with torch.no_grad():
        model.w.add_(5.0)
    assert torch.equal(si.state_dict().tensors["path/w"], before)
    assert before.item() == pytest.approx(0.1 * 4)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_going_on_inside_a_stage_from_the_saved_state_changes_nothing(place):
    gradients = [[1.0, -2.0], [3.0, 2.0], [-1.0, 1.0]]
    whole, _ = learned(gradients)
    si, model = Si(SiConfig(strength=3.0, damping=DAMPING)), Lines(w=[2.0, -1.0])
    ctx = context(model)
    si.begin_task(ctx)
    for number, gradient in enumerate(gradients):
        step(si, ctx, {"w": gradient})
        if number == place:
            state = si.state_dict()
            state.tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
            si = Si(SiConfig(strength=3.0, damping=DAMPING))
            si.load_state_dict(state)
    si.end_task(ctx)
    for name, tensor in whole.state_dict().tensors.items():
        assert torch.equal(si.state_dict().tensors[name], tensor)


def test_a_saved_state_does_not_follow_the_sums():
    si, model = Si(SiConfig()), Lines(w=[1.0])
    ctx = context(model)
    si.begin_task(ctx)
    step(si, ctx, {"w": [1.0]})
    saved = si.state_dict().tensors["path/w"]
    before = saved.clone()
    step(si, ctx, {"w": [1.0]})
    assert torch.equal(saved, before)


def test_nothing_is_kept_at_strength_zero():
    si, _ = learned([[1.0, 1.0]], strength=0.0)
    assert si.state_dict().tensors == {}


def test_a_real_loss_falls_by_about_the_sum_of_the_work():
    """The path integral of the gradient is the loss that was lost, for small steps."""
    torch.manual_seed(0)
    model = Logistic(2).eval()
    model.heads.add(Task(0, "first", (0, 1), 0))
    batch = batch_of(torch.randn(16, 2), [0, 1] * 8)
    ctx = context_of(model, [batch], [TASK])
    si = Si(SiConfig())
    si.begin_task(ctx)
    losses = []
    for _ in range(200):
        model.zero_grad()
        loss = ctx.task_loss(batch, ctx.forward(batch))
        losses.append(loss.item())
        loss.backward()
        si.watch_gradients(ctx, batch)
        with torch.no_grad():
            for parameter in model.trainable().values():
                parameter.sub_(parameter.grad, alpha=0.01)
        si.correct_weights(ctx)
    with torch.no_grad():
        losses.append(ctx.task_loss(batch, ctx.forward(batch)).item())
    work = sum(float(path.sum()) for path in si._path.values())
    assert work == pytest.approx(losses[0] - losses[-1], rel=0.02)
    assert work > 0
