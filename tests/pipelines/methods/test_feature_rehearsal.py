from collections import Counter

import pytest
import torch

from ratchet.pipelines.methods.feature_rehearsal import FeatureRehearsal
from ratchet.pipelines.spec.methods.replay import GenerativeConfig
from ratchet.pipelines.types import Output, Task
from tests.conformance.groups import in_group
from tests.conformance.streams import plan_of, taught
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, batch_of, context_of

FEATURES = [[1.0, 0.0], [3.0, 0.0], [0.0, 2.0], [0.0, 4.0]]


class Tabled(Logistic):
    """A classifier that takes features where they are known."""

    dim = 2

    def forward(self, inputs, features=None):
        features = self.features(inputs) if features is None else features
        return Output(logits=self.heads(features), features=features)


def model_of(tasks=(TASK, NEXT), layout="growing"):
    torch.manual_seed(0)
    model = Tabled(2, layout)
    for task in tasks:
        model.heads.add(task)
    return model


def after_first(model, **settings):
    """The method after a task of four rows: class 0 at (2, 0), class 1 at (0, 3)."""
    method = FeatureRehearsal(GenerativeConfig(**settings))
    ctx = context_of(model, [batch_of(FEATURES, [0, 0, 1, 1])], (TASK,))
    model.train()
    method.begin_task(ctx)
    method.end_task(ctx)
    assert model.training
    return method


def rehearsing(method, model, batch):
    ctx = context_of(model, [batch], (NEXT,), seen=(TASK,))
    method.begin_task(ctx)
    return ctx, method.loss(ctx, batch, ctx.forward(batch))


def test_features_are_looked_at_without_dropout_and_summed_class_by_class():
    statistics = after_first(model_of()).statistics
    assert statistics.counts.tolist() == [2.0, 2.0]
    assert statistics.sums.tolist() == [[4.0, 0.0], [0.0, 6.0]]
    assert statistics.second_moment.tolist() == [[10.0, 0.0], [0.0, 20.0]]


@pytest.mark.parametrize("layout", ["growing", "per_task"])
def test_the_loss_is_the_cross_entropy_of_what_was_drawn_over_the_rows_of_the_batch(layout):
    model = model_of(layout=layout)
    method = after_first(model, ratio=2.0)
    batch = batch_of([[0.0, 1.0]] * 3, [2, 3, 2], [1, 1, 1])
    _, found = rehearsing(method, model, batch)
    numbers = torch.Generator().manual_seed(0)
    classes = torch.randint(2, (6,), generator=numbers)
    noise = torch.randn(6, 2, generator=numbers)
    # Squares about the means sum to 2 on either axis, over 4 rows less 2 means: variance 1.
    means = torch.tensor([[2.0, 0.0], [0.0, 3.0]])
    root = method._gaussians.root
    torch.testing.assert_close(root @ root.T, torch.eye(2))
    logits = model.heads(means[classes] + noise @ root.T)
    open_classes = 2 if layout == "per_task" else 4
    wanted = -logits[:, :open_classes].log_softmax(1)[torch.arange(6), classes].sum() / 3
    torch.testing.assert_close(found, wanted)


def test_only_the_heads_get_a_gradient():
    model = model_of()
    model.backbone = torch.nn.Linear(2, 2)
    method = after_first(model, ratio=1.0)
    _, loss = rehearsing(method, model, batch_of([[0.0, 1.0]] * 3, [2, 3, 2], [1, 1, 1]))
    loss.backward()
    assert model.backbone.weight.grad is None
    assert all(parameter.grad is not None for parameter in model.heads.parameters())


@pytest.mark.parametrize(("ratio", "total"), [(0.2, 40), (0.25, 50), (3.0, 600)])
def test_over_many_steps_each_new_row_brings_ratio_drawn_ones(ratio, total):
    model = model_of()
    method = after_first(model, ratio=ratio)
    ctx = context_of(model, [], (NEXT,), seen=(TASK,))
    method.begin_task(ctx)
    drawn = Counter()
    seen = ctx.model.row_losses
    ctx.model.row_losses = lambda output, rows: (
        drawn.update(rows.targets.tolist()),
        seen(output, rows),
    )[1]
    batch = batch_of([[0.0, 1.0]] * 2, [2, 3], [1, 1])
    for _ in range(100):
        method.loss(ctx, batch, ctx.forward(batch))
    assert drawn.total() == total
    assert set(drawn) == {0, 1}
    assert min(drawn.values()) > 0.25 * total


def test_nothing_is_rehearsed_in_the_first_task_and_nothing_is_kept_at_ratio_zero():
    model = model_of()
    method = FeatureRehearsal(GenerativeConfig())
    batch = batch_of([[0.0, 1.0]], [0])
    ctx = context_of(model, [batch], (TASK,))
    assert method.loss(ctx, batch, ctx.forward(batch)) is None
    method = after_first(model, ratio=0.0)
    assert method.state_dict().tensors == {}
    numbers = ctx.generator.get_state()
    ctx, found = rehearsing(method, model, batch_of([[0.0, 1.0]], [2], [1]))
    assert found is None
    assert torch.equal(ctx.generator.get_state(), numbers)


def test_classes_that_no_one_showed_are_not_drawn():
    """A method that joins a lineage late knows nothing of the tasks before."""
    last = Task(2, "third", (4, 5), 2)
    model = model_of((TASK, NEXT, last))
    method = FeatureRehearsal(GenerativeConfig(ratio=1.0))
    ctx = context_of(
        model, [batch_of([[1.0, 0.0], [2.0, 0.0]], [2, 2], [1, 1])], (NEXT,), seen=(TASK,)
    )
    method.end_task(ctx)
    batch = batch_of([[0.0, 1.0]] * 4, [5] * 4, [2] * 4)
    ctx = context_of(model, [batch], (last,), seen=(TASK, NEXT))
    method.begin_task(ctx)
    drawn = []
    losses = model.row_losses
    model.row_losses = lambda output, rows: (
        drawn.extend(zip(rows.targets.tolist(), rows.task_ids.tolist(), strict=True)),
        losses(output, rows),
    )[1]
    method.loss(ctx, batch, ctx.forward(batch))
    assert drawn == [(2, 1)] * 4


def test_with_a_frozen_encoder_old_classes_are_kept_without_a_row_of_theirs(tiny_model, tmp_path):
    training = {"num_epochs": 12, "head_learning_rate": 0.03}
    frozen = {"type": "freeze", "num_blocks": 0}
    found = {}
    for ratio in (0.0, 2.0):
        stack = [frozen, {"type": "generative", "ratio": ratio}]
        teacher = taught(plan_of(tiny_model, tmp_path / str(ratio), stack, training=training))
        found[ratio] = teacher.scores[-1]["banking"]["test_all"]
        assert teacher.stack.state_dicts()["generative"].rows == []
    assert found[2.0] >= found[0.0] + 0.3


def sums_of(workers, plan):
    return taught(plan, workers=workers).stack.state_dicts()["generative"].tensors


def test_two_workers_sum_what_one_worker_sums(tiny_model, tmp_path):
    stack = [{"type": "freeze", "num_blocks": 0}, {"type": "generative"}]
    plans = [plan_of(tiny_model, tmp_path / name, stack) for name in ("alone", "pair")]
    (alone,) = in_group(1, tmp_path / "alone", sums_of, plans[0])
    one, two = in_group(2, tmp_path / "pair", sums_of, plans[1])
    for name, wanted in alone.items():
        assert torch.equal(one[name], two[name])
        torch.testing.assert_close(one[name], wanted, rtol=1e-4, atol=1e-4)
