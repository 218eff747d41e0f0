import pytest
import torch

from ratchet.pipelines.methods.ewc import Ewc
from ratchet.pipelines.methods.importance.mean import limited
from ratchet.pipelines.spec.methods.regularization import EwcConfig
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, RankOf, batch_of, context_of

INPUTS = [1.0, 2.0, -1.0, 3.0]
TARGETS = [0, 1, 1, 0]


def logistic(weights=(0.0, 0.0), task=TASK):
    model = Logistic(1)
    model.heads.add(task)
    block = model.heads.blocks[model.heads.block_name(task.id)]
    block.bias.requires_grad_(False)
    with torch.no_grad():
        block.weight.copy_(torch.tensor(weights)[:, None])
    return model, block.weight


def taught_once(config, weights=(0.0, 0.0), batches=None):
    model, weight = logistic(weights)
    ewc = Ewc(config)
    batches = batches or [batch_of(INPUTS, TARGETS)]
    ewc.end_task(context_of(model, batches, [TASK]))
    return model, weight, ewc


def later(model):
    return context_of(model, [], [NEXT], seen=[TASK])


def test_the_fisher_is_the_mean_of_per_example_squared_gradients():
    # p = 1/2 everywhere: d log p(y) / d w_k = (1[y = k] - 1/2) x, so F = mean(x^2) / 4 = 15 / 16.
    for labels in ("observed", "sampled"):
        _, _, ewc = taught_once(EwcConfig(labels=labels))
        (fisher,) = ewc.penalty.importance.values()
        torch.testing.assert_close(fisher, torch.full((2, 1), 15 / 16))


def test_the_observed_fisher_follows_the_labels_and_the_sampled_one_the_model():
    # Two weights 1 and 0 give p(0 | x) = 1 / (1 + exp(-x)).
    p = torch.sigmoid(torch.tensor(INPUTS))
    squares = torch.tensor(INPUTS).square()
    given = torch.where(torch.tensor(TARGETS) == 0, 1 - p, p).square()
    _, _, ewc = taught_once(EwcConfig(labels="observed"), weights=(1.0, 0.0))
    (fisher,) = ewc.penalty.importance.values()
    torch.testing.assert_close(fisher, (squares * given).mean().expand(2, 1))

    many = [batch_of(INPUTS * 2000, TARGETS * 2000)]
    _, _, ewc = taught_once(EwcConfig(labels="sampled"), weights=(1.0, 0.0), batches=many)
    (fisher,) = ewc.penalty.importance.values()
    expected = (squares * p * (1 - p)).mean().expand(2, 1)
    torch.testing.assert_close(fisher, expected, rtol=0.06, atol=0)


@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 3), (1, 1, 1, 1)], ids=str)
def test_the_fisher_does_not_depend_on_the_size_of_the_batches(sizes):
    batches, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        batches.append(batch_of(INPUTS[rows], TARGETS[rows], first_row=start))
        start += size
    _, _, ewc = taught_once(EwcConfig(labels="observed"), weights=(1.0, 0.0), batches=batches)
    _, _, whole = taught_once(EwcConfig(labels="observed"), weights=(1.0, 0.0))
    for name, fisher in whole.penalty.importance.items():
        torch.testing.assert_close(ewc.penalty.importance[name], fisher)


def test_the_fisher_pass_is_in_eval_mode_and_leaves_the_random_numbers_alone():
    model, _ = logistic()
    model.train()
    before = torch.get_rng_state()
    found = []
    for _ in range(2):
        ewc = Ewc(EwcConfig(labels="observed"))
        ewc.end_task(context_of(model, [batch_of(INPUTS, TARGETS)], [TASK]))
        found += ewc.penalty.importance.values()
    assert torch.equal(*found)  # with dropout they would differ
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_the_gradient_is_strength_times_fisher_times_the_way_gone():
    model, weight, ewc = taught_once(EwcConfig(strength=8.0, labels="observed"))
    with torch.no_grad():
        weight.add_(torch.tensor([[0.5], [-0.25]]))
    weight.grad = torch.tensor([[1.0], [1.0]])
    ewc.edit_gradients(later(model), batch_of(INPUTS, TARGETS))
    way = torch.tensor([[0.5], [-0.25]])
    torch.testing.assert_close(weight.grad, 1.0 + 8.0 * 15 / 16 * way)


def test_nothing_is_held_while_the_first_task_is_learned():
    model, weight, ewc = taught_once(EwcConfig(strength=8.0))
    weight.grad = torch.ones(2, 1)
    with torch.no_grad():
        weight.add_(1.0)
    ewc.edit_gradients(context_of(model, [], [TASK]), batch_of(INPUTS, TARGETS))
    assert torch.equal(weight.grad, torch.ones(2, 1))


def test_online_ewc_decays_what_came_before_and_moves_the_anchor():
    model, weight, ewc = taught_once(EwcConfig(strength=1.0, decay=0.5, labels="observed"))
    with torch.no_grad():
        weight.add_(1.0)  # the same to both classes: the probabilities stay 1/2
    ewc.end_task(context_of(model, [batch_of(INPUTS, TARGETS)], [TASK], seen=[TASK]))
    (fisher,) = ewc.penalty.importance.values()
    (anchor,) = ewc.penalty.center.values()
    torch.testing.assert_close(fisher, torch.full((2, 1), 0.5 * 15 / 16 + 15 / 16))
    assert torch.equal(anchor, weight)


def test_an_anchor_a_task_pulls_like_the_sum_of_the_springs():
    config = EwcConfig(strength=2.0, per_task=True, labels="observed")
    model, weight, ewc = taught_once(config)
    with torch.no_grad():
        weight.fill_(1.0)
    ewc.end_task(context_of(model, [batch_of(INPUTS, TARGETS)], [TASK], seen=[TASK]))
    with torch.no_grad():
        weight.fill_(3.0)
    weight.grad = torch.zeros(2, 1)
    ewc.edit_gradients(later(model), batch_of(INPUTS, TARGETS))
    both = 2.0 * 15 / 16 * ((3.0 - 0.0) + (3.0 - 1.0))
    torch.testing.assert_close(weight.grad, torch.full((2, 1), both))


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("max_examples", [1, 3, 4, 7, 100])
def test_a_limit_on_the_examples_holds_over_all_workers(max_examples, world_size):
    seen = []
    for rank in range(world_size):
        rows = list(range(rank, 10, world_size))
        parts = [part for part in (rows[:3], rows[3:]) if part]
        batches = [batch_of([1.0] * len(part), [0] * len(part)) for part in parts]
        workers = RankOf(rank, world_size)
        ctx = context_of(logistic()[0], batches, [TASK], workers=workers)
        seen += [int(row) for batch in limited(ctx, max_examples) for row in batch.rows]
    assert len(seen) == min(max_examples, 10)


def test_importances_and_anchors_survive_saving():
    model, weight, ewc = taught_once(EwcConfig(labels="observed"))
    other = Ewc(EwcConfig(labels="observed"))
    other.load_state_dict(ewc.state_dict())
    found = []
    for method in (ewc, other):
        weight.grad = torch.zeros(2, 1)
        with torch.no_grad():
            weight.fill_(0.7)
        method.edit_gradients(later(model), batch_of(INPUTS, TARGETS))
        found.append(weight.grad.clone())
    assert torch.equal(*found)
    assert float(found[0].abs().sum()) > 0
