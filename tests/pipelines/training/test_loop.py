import pytest
import torch

from ratchet.pipelines.errors import DivergedError
from ratchet.pipelines.training.loop import Position, StageLoop
from tests.conformance.streams import plan_of, teacher_of


def loop_of(model, folder, methods=(), tasks=("banking",), stage=0, **options):
    """A loop over a stage, ready for its first step, without dropout: steps can be compared."""
    teacher = teacher_of(plan_of(model, folder, list(methods), tasks, **options))
    teacher._start_lineage(None)
    for earlier in teacher.job.stages[: stage + 1]:
        teacher._expand(earlier)
    tasks = teacher.job.stages[stage]
    ctx = teacher._context(tasks)
    loop = StageLoop(ctx, teacher.stack, teacher._rows(tasks), teacher.training, teacher.workers)
    teacher.stack.activate(teacher.model, tasks[-1].id)
    teacher.stack.begin_task(ctx)
    loop.start(Position())
    for module in teacher.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return loop


def gradients_of_step(loop, rows):
    caught = {}
    step = loop.optimizer.step

    def catch():
        caught.update({name: p.grad.clone() for name, p in loop.optimizer.parameters.items()})
        step()

    loop.optimizer.step = catch
    loop.step(loop.rows.batch(rows))
    return caught


@pytest.mark.parametrize("pieces", [2, 3, 5, 24, 100])
def test_accumulated_gradients_are_those_of_one_batch(tiny_model, tmp_path, pieces):
    rows = range(24)
    whole = gradients_of_step(loop_of(tiny_model, tmp_path / "one"), rows)
    training = {"gradient_accumulation_steps": pieces}
    other = gradients_of_step(loop_of(tiny_model, tmp_path / "many", training=training), rows)
    assert whole.keys() == other.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(other[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("poison", ["nan", "inf"])
def test_a_gradient_that_is_not_finite_stops_before_the_step(tiny_model, tmp_path, poison):
    loop = loop_of(tiny_model, tmp_path)
    before = {name: tensor.clone() for name, tensor in loop.model.state_dict().items()}
    weight = loop.model.heads.blocks["task_000"].weight
    weight.register_hook(lambda gradient: gradient * float(poison))
    with pytest.raises(DivergedError, match=r"task 'banking', step 1: the gradient is not finite"):
        loop.step(loop.rows.batch(range(8)))
    after = loop.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())


def test_frozen_features_are_looked_up_and_give_the_same_logits(tiny_model, tmp_path):
    stack = [{"type": "freeze", "warmup_epochs": 1}, {"type": "replay", "capacity": 8}]
    loop = loop_of(tiny_model, tmp_path, stack)
    batch = loop.rows.batch([5, 0, 17])
    assert loop._known_features(batch) is None  # the backbone trains
    loop.ctx.epoch = 1
    loop._begin_epoch()
    mixed = batch.extended("replay", loop.rows.batch([3, 9]))
    calls = []
    loop.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    found = loop._known_features(mixed)
    assert len(calls) == 1  # the appended rows alone are computed
    loop._known_features(batch)
    assert len(calls) == 1
    loop.model.eval()
    with torch.no_grad():
        wanted = loop.model(mixed.inputs)
        tabled = loop.model(mixed.inputs, features=found)
    torch.testing.assert_close(tabled.logits, wanted.logits, rtol=1e-5, atol=1e-5)


def test_the_warm_up_trains_the_backbone_in_the_first_task_only(tiny_model, tmp_path):
    stack = [{"type": "freeze", "warmup_epochs": 1}]
    first = loop_of(tiny_model, tmp_path / "first", stack, ("banking", "home"))
    assert not first.model.features_are_fixed
    later = loop_of(tiny_model, tmp_path / "later", stack, ("banking", "home"), stage=1)
    assert later.model.features_are_fixed
    assert set(later.optimizer.parameters) == {
        f"heads.blocks.task_00{task}.{name}" for task in (0, 1) for name in ("weight", "bias")
    }


def test_the_optimizer_is_fresh_for_every_task(tiny_model, tmp_path):
    teacher = teacher_of(plan_of(tiny_model, tmp_path, []))
    learn, states = teacher._learn, []

    def learning(index, loop, saved):
        start = loop.start

        def starting(position):
            start(position)
            states.append((len(loop.optimizer.adamw.state), loop.optimizer.schedule.last_epoch))

        loop.start = starting
        learn(index, loop, saved)
        states.append((len(loop.optimizer.adamw.state), loop.optimizer.schedule.last_epoch))

    teacher._learn = learning
    teacher.run()
    (first, ended, second, _) = states
    assert first == second == (0, 0)
    assert ended[0] > 0
    assert ended[1] == 4


def test_every_row_is_seen_once_an_epoch(tiny_model, tmp_path):
    loop = loop_of(tiny_model, tmp_path, training={"num_epochs": 3, "batch_size": 7})
    seen, step = [], loop.step

    def watching(batch):
        seen.append((loop.ctx.epoch, batch.rows.tolist()))
        return step(batch)

    loop.step = watching
    loop.run(Position(), lambda *_: None)
    for epoch in range(3):
        rows = [row for at, rows in seen if at == epoch for row in rows]
        assert sorted(rows) == list(range(24))
    orders = {epoch: [rows for at, rows in seen if at == epoch] for epoch in range(3)}
    assert orders[0] != orders[1] != orders[2]


def test_only_classes_seen_compete_in_a_growing_head(tiny_model, tmp_path):
    methods = [{"type": "heads", "layout": "growing"}]
    loop = loop_of(tiny_model, tmp_path, methods, ("banking", "home", "kitchen"), stage=1)
    loop.model.head.add(loop.ctx.seen[0].__class__(2, "kitchen", (4, 5), 2))
    batch = loop.rows.batch(range(3))
    output = loop.ctx.forward(batch)
    assert torch.isinf(output.logits[:, 4:]).all()
    assert torch.isfinite(output.logits[:, :4]).all()
    assert torch.isfinite(output.all_logits).all()
