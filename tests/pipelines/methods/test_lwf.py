import numpy as np
import pytest
import torch

from ratchet.pipelines.methods.lwf import Lwf
from ratchet.pipelines.spec.methods.regularization import LwfConfig
from tests.conformance.streams import plan_of, taught, teacher_of
from tests.pipelines.methods.contexts import batch_of


def softmax(logits):
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def divergence(teacher, student, temperature):
    """T^2 KL(teacher || student), a mean over the rows, in numpy."""
    p, q = softmax(teacher / temperature), softmax(student / temperature)
    return temperature**2 * float((p * (np.log(p) - np.log(q))).sum(axis=1).mean())


def between_tasks(model, folder, methods, scenario="class_incremental"):
    """A real model that has learned two tasks and is about to learn the next, with its context."""
    tasks = ("banking", "home", "kitchen")
    plan = plan_of(model, folder, methods, tasks, scenario=scenario)
    first = plan_of(model, folder / "first", methods, tasks[:2], scenario=scenario)
    teacher = taught(first)
    teacher.data = plan.data
    teacher.job = plan.job
    stage = plan.job.stages[2]
    teacher._expand(stage)
    return teacher, teacher._context(stage), teacher._rows(stage).batch(range(5))


@pytest.mark.parametrize(
    ("scenario", "groups"),
    [("class_incremental", [[0, 1, 2, 3]]), ("task_incremental", [[0, 1], [2, 3]])],
)
def test_the_loss_is_the_divergence_from_the_model_as_it_was(
    tiny_model, tmp_path, scenario, groups
):
    methods = [{"type": "lwf", "temperature": 3.0, "strength": 0.5}]
    teacher, ctx, batch = between_tasks(tiny_model, tmp_path, methods, scenario)
    lwf, model = teacher.stack.methods["lwf"], teacher.model.eval()
    lwf.begin_task(ctx)
    with torch.no_grad():
        old = model(batch.inputs).logits.numpy()
        noise = torch.Generator().manual_seed(1)
        teacher.stack.begin_epoch(ctx)
        for parameter in model.trainable().values():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=noise))
        output = model(batch.inputs)
        found = float(lwf.loss(ctx, batch, output))
    new = output.logits.numpy()
    terms = [divergence(old[:, group], new[:, group], 3.0) for group in groups]
    assert found == pytest.approx(0.5 * np.mean(terms), rel=1e-4)
    assert found > 0


def test_the_teacher_is_in_eval_mode_and_sees_what_the_student_sees(tiny_model, tmp_path):
    teacher, ctx, batch = between_tasks(tiny_model, tmp_path, [{"type": "lwf"}])
    lwf, model = teacher.stack.methods["lwf"], teacher.model
    lwf.begin_task(ctx)
    model.train()
    fed = []
    lwf._teacher.register_forward_pre_hook(lambda _module, args: fed.append(args[0]))
    output = model(batch.inputs)
    one, two = (lwf.loss(ctx, batch, output).item() for _ in range(2))
    assert one == two  # dropout would make it another one
    assert not any(module.training for module in lwf._teacher.modules())
    assert model.training
    assert all(torch.equal(seen["input_ids"], batch.inputs["input_ids"]) for seen in fed)


def test_only_new_rows_are_distilled(tiny_model, tmp_path):
    teacher, ctx, batch = between_tasks(tiny_model, tmp_path, [{"type": "lwf"}])
    lwf, model = teacher.stack.methods["lwf"], teacher.model.eval()
    lwf.begin_task(ctx)
    longer = batch.extended("replay", teacher._rows(ctx.tasks).batch(range(6, 9)))
    with torch.no_grad():
        for parameter in model.heads.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        alone = lwf.loss(ctx, batch, model(batch.inputs))
        mixed = lwf.loss(ctx, longer, model(longer.inputs))
    torch.testing.assert_close(alone, mixed)
    assert float(alone) > 0


def test_the_teacher_does_not_follow_the_student(tiny_model, tmp_path):
    teacher, ctx, batch = between_tasks(tiny_model, tmp_path, [{"type": "lwf"}])
    lwf, model = teacher.stack.methods["lwf"], teacher.model
    lwf.begin_task(ctx)
    before = {name: tensor.clone() for name, tensor in lwf._teacher.state_dict().items()}
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    output = model(batch.inputs)
    (ctx.task_loss(batch, output) + lwf.loss(ctx, batch, output)).backward()
    optimizer.step()
    after = lwf._teacher.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(parameter.grad is None for parameter in lwf._teacher.parameters())


def test_there_is_no_teacher_for_the_first_task_and_none_is_saved_between_tasks(
    tiny_model, tmp_path
):
    lwf = Lwf(LwfConfig())
    teacher = teacher_of(plan_of(tiny_model, tmp_path, [{"type": "lwf"}]))
    teacher._expand(teacher.job.stages[0])
    ctx = teacher._context(teacher.job.stages[0])
    lwf.begin_task(ctx)
    batch = batch_of([1.0], [0])
    assert lwf.loss(ctx, batch, teacher.model(teacher._rows(ctx.tasks).batch([0]).inputs)) is None
    assert lwf.state_dict().tensors == {}
