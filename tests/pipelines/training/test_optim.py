import pytest
import torch
from torch import nn

from ratchet.pipelines.spec.update_spec import TrainingSpec
from ratchet.pipelines.training.optim import StageOptimizer


def optimizer_over(parameters, num_steps=10, **settings):
    return StageOptimizer(parameters, TrainingSpec(**settings), num_steps)


def rates(num_steps, **settings):
    """The rate of each step, as a share of the highest."""
    parameter = nn.Parameter(torch.ones(2, 2))
    optimizer = optimizer_over({"w": parameter}, num_steps, learning_rate=1.0, **settings)
    found = []
    for _ in range(num_steps):
        found.append(optimizer.adamw.param_groups[0]["lr"])
        parameter.grad = torch.ones(2, 2)
        optimizer.clip()
        optimizer.step()
    return found


def test_the_rate_warms_up_and_decays_to_nothing():
    expected = [1 / 3, 2 / 3, 1.0, 7 / 8, 6 / 8, 5 / 8, 4 / 8, 3 / 8, 2 / 8, 1 / 8]
    assert rates(10, warmup_fraction=0.2) == pytest.approx(expected)


def test_a_constant_rate_stays():
    assert rates(5, warmup_fraction=0.0, schedule="constant") == [1.0] * 5


def test_a_step_clips_to_the_joint_norm():
    one, two = nn.Parameter(torch.zeros(2, 1)), nn.Parameter(torch.zeros(2, 1))
    optimizer = optimizer_over({"one": one, "two": two}, max_grad_norm=1.0)
    one.grad, two.grad = torch.tensor([[3.0], [0.0]]), torch.tensor([[0.0], [4.0]])
    assert float(optimizer.clip()) == pytest.approx(5.0)
    optimizer.step()
    # Adam's first moment is a tenth of what it was given: the gradient divided by its norm, 5.
    moments = [optimizer.adamw.state[parameter]["exp_avg"] for parameter in (one, two)]
    torch.testing.assert_close(moments[0], torch.tensor([[0.06], [0.0]]), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(moments[1], torch.tensor([[0.0], [0.08]]), rtol=1e-4, atol=1e-6)


def test_weights_decay_and_biases_do_not():
    weight, bias = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.ones(1))
    optimizer = optimizer_over(
        {"weight": weight, "bias": bias},
        learning_rate=0.1,
        weight_decay=0.5,
        warmup_fraction=0.0,
    )
    weight.grad, bias.grad = torch.zeros(1, 1), torch.zeros(1)
    optimizer.clip()
    optimizer.step()
    assert weight.item() == pytest.approx(0.95)
    assert bias.item() == 1.0


def test_heads_may_have_a_rate_of_their_own():
    parameters = {
        "heads.blocks.task_000.weight": nn.Parameter(torch.ones(1, 1)),
        "backbone.weight": nn.Parameter(torch.ones(1, 1)),
    }
    optimizer = optimizer_over(
        parameters, learning_rate=0.1, head_learning_rate=0.5, warmup_fraction=0.0
    )
    assert sorted(group["lr"] for group in optimizer.adamw.param_groups) == [0.1, 0.5]


def test_parameters_that_were_frozen_since_are_neither_stepped_nor_decayed():
    kept, trained = nn.Parameter(torch.ones(2, 2)), nn.Parameter(torch.ones(2, 2))
    optimizer = optimizer_over({"kept": kept, "trained": trained}, weight_decay=0.5)
    kept.grad, trained.grad = torch.ones(2, 2), torch.ones(2, 2)
    optimizer.clip()
    optimizer.step()
    kept.requires_grad_(False)
    before = kept.clone(), trained.clone()
    trained.grad = torch.ones(2, 2)
    optimizer.clip()
    optimizer.step()
    assert torch.equal(kept, before[0])
    assert not torch.equal(trained, before[1])


def test_moments_and_position_survive_saving():
    torch.manual_seed(0)
    gradients = torch.randn(6, 3, 3)
    whole, saved = nn.Parameter(torch.ones(3, 3)), nn.Parameter(torch.ones(3, 3))
    undisturbed = optimizer_over({"w": whole}, learning_rate=0.1)
    first = optimizer_over({"w": saved}, learning_rate=0.1)

    def steps(optimizer, parameter, chosen):
        for gradient in chosen:
            parameter.grad = gradient.clone()
            optimizer.clip()
            optimizer.step()

    steps(undisturbed, whole, gradients)
    steps(first, saved, gradients[:3])
    state, position = first.state_dict()
    assert position == 3
    state = {name: tensor.clone() for name, tensor in state.items()}
    restored = nn.Parameter(saved.detach().clone())
    second = optimizer_over({"w": restored}, learning_rate=0.1)
    second.load_state_dict(state, position)
    steps(second, restored, gradients[3:])
    assert torch.equal(whole, restored)
    lost = nn.Parameter(saved.detach().clone())
    steps(optimizer_over({"w": lost}, learning_rate=0.1), lost, gradients[3:])
    assert not torch.equal(whole, lost)
