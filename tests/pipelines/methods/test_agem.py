import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ratchet.pipelines.methods.agem import Agem, gradients_of, project
from ratchet.pipelines.methods.base import MemoryRow, MethodState
from ratchet.pipelines.spec.methods.replay import AgemConfig
from tests.conformance.groups import in_group
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, batch_of, context_of

ANY = st.floats(-5, 5, allow_nan=False, width=32)


def weights_with(*gradients):
    parameters = []
    for gradient in gradients:
        parameter = nn.Parameter(torch.zeros(2))
        parameter.grad = None if gradient is None else torch.tensor(gradient)
        parameters.append(parameter)
    return parameters


def test_a_step_against_the_memory_loses_what_goes_against_it():
    # g . r = 3 * 1 - 2 * 2 = -1 over both parameters together, r . r = 5.
    parameters = weights_with([3.0, 0.0], [-2.0, 1.0])
    project(parameters, [torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0])])
    torch.testing.assert_close(parameters[0].grad, torch.tensor([3.2, 0.0]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([-1.6, 1.0]))


def test_a_step_that_agrees_with_the_memory_is_left_alone_to_the_bit():
    parameters = weights_with([3.0, 0.1], [-1.0, 1.0])  # one parameter alone would disagree
    project(parameters, [torch.tensor([1.0, 0.0]), torch.tensor([2.0, 0.0])])
    assert parameters[0].grad.tolist() == torch.tensor([3.0, 0.1]).tolist()
    assert parameters[1].grad.tolist() == [-1.0, 1.0]


def test_a_parameter_that_only_the_memory_uses_takes_part():
    parameters = weights_with([-2.0, 0.0], None)
    project(parameters, [torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])])
    torch.testing.assert_close(parameters[0].grad, torch.tensor([-1.0, 0.0]))
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.0, 1.0]))


@given(st.lists(ANY, min_size=4, max_size=4), st.lists(ANY, min_size=4, max_size=4))
def test_no_step_goes_against_the_memory_after_it(gradient, reference):
    wanted = torch.tensor(reference)
    parameters = weights_with(gradient[:2], gradient[2:])
    project(parameters, list(wanted.split(2)))
    found = torch.cat([parameter.grad for parameter in parameters])
    size = float(wanted.norm() * torch.tensor(gradient).norm())
    assert float(found.dot(wanted)) >= -1e-5 * max(size, 1e-3)


def remembering(inputs, **settings):
    """Rows of class 0 whose text is their input."""
    agem = Agem(AgemConfig(**settings))
    rows = [MemoryRow(str(number), 0, 0) for number in inputs]
    agem.load_state_dict(MethodState(values={"num_seen": len(rows)}, rows=rows))
    return agem


def model_of_two_tasks():
    model = Logistic(1)
    for task in (TASK, NEXT):
        model.heads.add(task)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    return model


def step(agem, workers=None):
    """The gradients after the edit, where plain ones would lower class 0's weight."""
    model = model_of_two_tasks()
    ctx = context_of(model, [], [NEXT], seen=[TASK], workers=workers)
    weight = model.heads.blocks["task_000"].weight
    weight.grad = torch.tensor([[1.0], [0.0]])
    agem.edit_gradients(ctx, batch_of([1.0], [2], [1]))
    return {name: parameter.grad for name, parameter in model.named_parameters()}


def by_hand(inputs):
    """Rows x of class 0 at uniform odds 1/4: dL/dw = mean x (1/4 - [0]), dL/db = 1/4 - [0]."""
    slope = torch.full((4,), 0.25)
    slope[0] = -0.75
    mean = torch.tensor(inputs, dtype=torch.float32).mean()
    gradient, reference = torch.zeros(8), torch.cat([mean * slope, slope])
    gradient[0] = 1.0
    along = gradient @ reference
    assert along < 0
    return gradient - along / (reference @ reference) * reference


def assert_by_hand(found, inputs):
    parts = [
        found[f"heads.blocks.task_00{task}.{kind}"].flatten()
        for kind in ("weight", "bias")
        for task in (0, 1)
    ]
    torch.testing.assert_close(torch.cat(parts), by_hand(inputs))


def test_the_reference_is_the_gradient_of_the_task_loss_on_the_memory():
    assert_by_hand(step(remembering([2, 5, 8])), [2, 5, 8])


def on_each_rank(workers, shards):
    return step(remembering(shards[workers.rank]), workers)


@pytest.mark.parametrize("shards", [([2, 5], [8, 9]), ([2, 5, 8], [9]), ([2, 5, 8, 9], [])])
def test_workers_that_remember_different_rows_make_the_same_step_as_one(tmp_path, shards):
    """The mean over all rows: a reference of each rank's own rows would part the ranks."""
    one, two = in_group(2, tmp_path, on_each_rank, shards)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert_by_hand(one, [2, 5, 8, 9])


def test_the_rows_of_a_step_are_shared_out_over_the_workers(tmp_path):
    agem = remembering([3] * 20, rows_per_step=7)
    drawn = []
    agem.memory.draw = lambda count, _: drawn.append(count) or list(range(count))
    step(agem)
    assert drawn == [7]


@pytest.mark.parametrize("case", ["first task", "no capacity", "nothing remembered"])
def test_nothing_is_touched_where_there_is_nothing_to_remember(case):
    inputs = [] if case == "nothing remembered" else [2]
    agem = remembering(inputs, capacity=0 if case == "no capacity" else 9)
    model = model_of_two_tasks()
    seen = [] if case == "first task" else [TASK]
    ctx = context_of(model, [], [NEXT], seen=seen)
    numbers, own = torch.get_rng_state(), ctx.generator.get_state()
    agem.edit_gradients(ctx, batch_of([1.0], [2], [1]))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), numbers)
    assert torch.equal(ctx.generator.get_state(), own)


def test_the_second_pass_leaves_gradients_modes_buffers_and_random_numbers_alone():
    model = model_of_two_tasks()
    model.norm = nn.BatchNorm1d(1)
    plain = model.forward

    def forward(inputs):
        return plain({"input_ids": model.norm(inputs["input_ids"])})

    model.forward = forward
    model.train()
    model.backbone.eval()  # a module that a method put into eval mode stays in it
    weight = model.heads.blocks["task_000"].weight
    weight.grad = torch.ones(2, 1)
    before, buffers = torch.get_rng_state(), {k: v.clone() for k, v in model.norm.named_buffers()}
    ctx = context_of(model, [], [NEXT], seen=[TASK])
    found = [
        gradients_of(ctx, batch_of([1.0, 2.0], [0, 1]), list(model.trainable().values()))
        for _ in range(2)
    ]
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert torch.equal(weight.grad, torch.ones(2, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(buffers[name], value) for name, value in model.norm.named_buffers())
    assert model.training
    assert model.norm.training
    assert not model.backbone.training
