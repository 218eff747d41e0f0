import pytest
import torch
from torch import nn

from ratchet.pipelines.methods.mas import Mas, squared_answers
from ratchet.pipelines.spec.methods.regularization import MasConfig
from ratchet.pipelines.types import Output, Task
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, batch_of, context_of

INPUTS = [1.0, 2.0, -1.0, 3.0]
WEIGHTS = (0.5, -2.0)


def linear(*blocks, layout="growing", tasks=(TASK,)):
    """Heads without biases over one number a row: f_k(x) = w_k x."""
    model = Logistic(1, layout)
    for task, weights in zip(tasks, blocks, strict=True):
        model.heads.add(task)
        block = model.heads.blocks[model.heads.block_name(task.id)]
        block.bias.requires_grad_(False)
        with torch.no_grad():
            block.weight.copy_(torch.tensor(weights)[:, None])
    return model


def taught_once(model, batches, tasks=(TASK,), seen=(), **settings):
    mas = Mas(MasConfig(**settings))
    mas.end_task(context_of(model, batches, tasks, seen=seen))
    return mas


def test_importance_is_the_mean_magnitude_of_each_examples_gradient():
    # ||f||^2 = sum_k w_k^2 x^2, so |d / d w_k| = 2 |w_k| x^2, of mean 2 |w_k| 15 / 4.
    mas = taught_once(linear(WEIGHTS), [batch_of(INPUTS, [0] * 4)])
    (omega,) = mas.penalty.importance.values()
    torch.testing.assert_close(omega, 2 * torch.tensor(WEIGHTS).abs()[:, None] * 15 / 4)


def test_gradients_of_opposite_sign_do_not_cancel():
    """The gradient of the mean is zero here: its magnitude would say that nothing matters."""
    task = Task(0, "first", (0,), 0)
    model = linear((1.0,), tasks=(task,))
    block = model.heads.blocks["task_000"]
    block.weight.requires_grad_(False)
    block.bias.requires_grad_(True)
    mas = taught_once(model, [batch_of([3.0, -3.0], [0, 0])], tasks=(task,))
    (omega,) = mas.penalty.importance.values()
    torch.testing.assert_close(omega, torch.tensor([6.0]))  # |2 f(x)| of each row


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 3), (1, 1, 1, 1)], ids=str)
def test_importance_does_not_depend_on_the_size_of_the_batches_or_the_labels(sizes):
    batches, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        batches.append(batch_of(INPUTS[rows], [1] * size, first_row=start))
        start += size
    one = taught_once(linear(WEIGHTS), batches)
    other = taught_once(linear(WEIGHTS), [batch_of(INPUTS, [0] * 4)])
    for name, omega in one.penalty.importance.items():
        torch.testing.assert_close(omega, other.penalty.importance[name])


def test_the_pass_is_in_eval_mode_and_leaves_model_and_random_numbers_alone():
    model = linear(WEIGHTS).train()
    weight = model.heads.blocks["task_000"].weight
    weight.grad = torch.ones(2, 1)
    before = torch.get_rng_state()
    found = []
    for _ in range(2):
        found += taught_once(model, [batch_of(INPUTS, [0] * 4)]).penalty.importance.values()
    assert torch.equal(*found)  # with dropout they would differ
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weight.grad, torch.ones(2, 1))
    assert model.training


@pytest.mark.parametrize(
    ("layout", "classes"), [("growing", [0, 1, 2, 3]), ("per_task", [2, 3])], ids=str
)
def test_answers_are_those_that_compete_in_the_rows_loss(layout, classes):
    model = linear(WEIGHTS, (1.0, 3.0), layout=layout, tasks=(TASK, NEXT)).eval()
    ctx = context_of(model, [], [NEXT], seen=[TASK])
    batch = batch_of([2.0], [2], [1])
    squares = (2.0 * torch.tensor([*WEIGHTS, 1.0, 3.0])).square()
    found = squared_answers(ctx, batch, model(batch.inputs))
    torch.testing.assert_close(found, squares[classes].sum()[None])


def test_classes_of_tasks_to_come_are_no_answers():
    model = linear(WEIGHTS, (1.0, 3.0), tasks=(TASK, NEXT)).eval()
    model.heads.open_future = True
    batch = batch_of([2.0], [0])
    found = squared_answers(context_of(model, [], [TASK]), batch, model(batch.inputs))
    torch.testing.assert_close(found, (2.0 * torch.tensor(WEIGHTS)).square().sum()[None])


def test_a_language_models_answers_are_the_logits_before_its_learned_tokens():
    batch = batch_of([[5.0, 6.0, 7.0, 0.0], [5.0, 6.0, 7.0, 8.0]], [0, 0])
    batch.inputs["completion_mask"] = torch.tensor([[0, 0, 1, 0], [1, 1, 0, 1]])
    logits = torch.arange(24.0).reshape(2, 4, 3)
    ctx = context_of(nn.Module(), [], [TASK])
    found = squared_answers(ctx, batch, Output(logits, torch.zeros(2, 1)))
    norms = logits.square().sum(-1)
    torch.testing.assert_close(found, torch.stack([norms[0, 1], norms[1, [0, 2]].mean()]))


def test_the_pull_is_the_strength_times_the_importance_and_old_importance_decays():
    model = linear(WEIGHTS)
    weight = model.heads.blocks["task_000"].weight
    batch = batch_of(INPUTS, [0] * 4)
    mas = taught_once(model, [batch], strength=8.0, decay=0.5)
    mas.end_task(context_of(model, [batch], [TASK], seen=[TASK]))
    omega = 1.5 * 2 * torch.tensor(WEIGHTS).abs()[:, None] * 15 / 4
    with torch.no_grad():
        weight.add_(torch.tensor([[0.5], [-0.25]]))
    weight.grad = torch.ones(2, 1)
    mas.edit_gradients(context_of(model, [], [NEXT], seen=[TASK]), batch)
    expected = 1.0 + 8.0 * omega * torch.tensor([[0.5], [-0.25]])
    torch.testing.assert_close(weight.grad, expected)


def test_importances_and_anchors_survive_saving():
    model = linear(WEIGHTS)
    mas, other = taught_once(model, [batch_of(INPUTS, [0] * 4)]), Mas(MasConfig())
    other.load_state_dict(mas.state_dict())
    weight = model.heads.blocks["task_000"].weight
    with torch.no_grad():
        weight.fill_(0.7)
    found = []
    for method in (mas, other):
        weight.grad = torch.zeros(2, 1)
        method.edit_gradients(context_of(model, [], [NEXT], seen=[TASK]), batch_of([1.0], [2]))
        found.append(weight.grad.clone())
    assert torch.equal(*found)
    assert float(found[0].abs().sum()) > 0
