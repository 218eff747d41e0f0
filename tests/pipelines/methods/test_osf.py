import pytest
import torch
from peft import OSFConfig as PeftOsfConfig
from peft import get_peft_model
from torch import nn

from ratchet.pipelines.methods.osf import Osf
from ratchet.pipelines.models.causal_lm import load_causal_lm
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.spec.methods.adapters import OsfConfig
from ratchet.pipelines.types import Task
from tests.conformance.groups import in_group
from tests.conformance.streams import differences, knowledge, plan_of, taught, teacher_of
from tests.pipelines.methods.contexts import RankOf, context_of
from tests.tiny_lm import save_tiny_decoder

FIRST, SECOND = Task(0, "a", (0, 1), 0), Task(1, "b", (2, 3), 1)
OSF = [{"type": "osf", "keep": 0.5}]
SHAKY = {"weight_decay": 0.5, "schedule": "constant", "num_epochs": 3}
"""AdamW as far from plain gradient descent as it gets."""


def begun(folder, keep=0.5, workers=None):
    model = load_classifier(str(folder))
    method = Osf(OsfConfig(keep=keep))
    method.expand(model, FIRST)
    ctx = context_of(model, [], [FIRST], workers=workers)
    method.begin_task(ctx)
    return model, method, ctx


def linear_layers(model):
    return {n: m for n, m in model.backbone.named_modules() if isinstance(m, nn.Linear)}


def top(weight, keep):
    """Left and right singular vectors by another route: eigenvectors of W W^T and W^T W."""
    count = int(min(weight.shape) * keep)
    weight = weight.double()
    left = torch.linalg.eigh(weight @ weight.T).eigenvectors[:, -count:]
    right = torch.linalg.eigh(weight.T @ weight).eigenvectors[:, -count:]
    return left, right


def moved(before, after, keep):
    """By layer: how far the weight moved, and how far along the kept directions."""
    found = {}
    for name, start in before.items():
        left, right = top(start, keep)
        change = (after[name] - start).double()
        found[name] = (
            float(change.norm()),
            float((left.T @ change).norm()),
            float((change @ right).norm()),
        )
    return found


def weights_of(teacher):
    return {n: m.weight.detach().clone() for n, m in linear_layers(teacher.model).items()}


def test_only_the_weights_of_linear_layers_train(tiny_model):
    model, _, _ = begun(tiny_model)
    layers = {f"backbone.{name}.weight" for name in linear_layers(model)}
    assert len(layers) == 12
    assert set(model.trainable()) == layers
    assert model.backbone_trains


def test_the_output_layer_of_a_language_model_does_not_train(tmp_path):
    model = load_causal_lm(str(save_tiny_decoder(tmp_path)))
    Osf(OsfConfig()).expand(model, FIRST)
    names = set(model.trainable())
    assert len(names) == 14
    assert not any("lm_head" in name or "embed" in name for name in names)


@pytest.mark.parametrize("keep", [0.25, 0.5, 0.9])
def test_gradients_lose_what_points_along_the_kept_directions(tiny_model, keep):
    model, method, ctx = begun(tiny_model, keep)
    torch.manual_seed(0)
    expected = {}
    for name, layer in linear_layers(model).items():
        gradient = layer.weight.grad = torch.randn_like(layer.weight)
        left, right = top(layer.weight.detach(), keep)
        rows = torch.eye(len(left)).double() - left @ left.T
        columns = torch.eye(len(right)).double() - right @ right.T
        expected[name] = rows @ gradient.double() @ columns
    method.edit_gradients(ctx, None)
    for name, layer in linear_layers(model).items():
        torch.testing.assert_close(layer.weight.grad.double(), expected[name], rtol=0, atol=1e-4)
        assert expected[name].norm() > 1


def test_a_step_in_any_direction_is_put_back_into_the_complement(tiny_model):
    model, method, ctx = begun(tiny_model)
    torch.manual_seed(0)
    starts = {name: layer.weight.detach().clone() for name, layer in linear_layers(model).items()}
    with torch.no_grad():
        for layer in linear_layers(model).values():
            layer.weight += 0.1 * torch.randn_like(layer.weight)
    method.correct_weights(ctx)
    ends = {name: layer.weight.detach() for name, layer in linear_layers(model).items()}
    for change, along_left, along_right in moved(starts, ends, 0.5).values():
        assert change > 0.5
        assert along_left < 1e-4
        assert along_right < 1e-4


def test_a_task_moves_the_weights_in_the_complement_only(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, OSF, ("banking",), training=SHAKY)
    before = weights_of(teacher_of(plan))
    after = weights_of(taught(plan))
    for change, along_left, along_right in moved(before, after, 0.5).values():
        assert change > 0.01
        assert along_left < 1e-3 * change
        assert along_right < 1e-3 * change


def test_projected_gradients_alone_would_leave_it(tiny_model):
    # What PEFT's layers do: why the weights are put back here after each step.
    model = load_classifier(str(tiny_model))
    starts = {n: m.weight.detach().clone() for n, m in linear_layers(model).items()}
    peft = get_peft_model(
        model.backbone, PeftOsfConfig(effective_rank=0.5, target_modules="all-linear")
    )
    optimizer = torch.optim.AdamW(
        [p for p in peft.parameters() if p.requires_grad], lr=3e-3, weight_decay=0.0
    )
    inputs = {"input_ids": torch.tensor([[2, 6, 7, 8, 3]]), "attention_mask": torch.ones(1, 5)}
    for _ in range(4):
        optimizer.zero_grad()
        peft(**inputs).last_hidden_state[:, 0].pow(3).sum().backward()
        optimizer.step()
    ends = {n: m.weight.detach() for n, m in linear_layers_of(peft.merge_and_unload()).items()}
    shares = [left / change for change, left, _ in moved(starts, ends, 0.5).values() if change > 0]
    assert max(shares) > 0.05


def linear_layers_of(backbone):
    return {n: m for n, m in backbone.named_modules() if isinstance(m, nn.Linear)}


def test_each_task_keeps_the_directions_of_the_weights_as_it_finds_them(tiny_model, tmp_path):
    start = weights_of(teacher_of(plan_of(tiny_model, tmp_path / "0", OSF)))
    wild = SHAKY | {"learning_rate": 3e-2}  # what was weak grows stronger than what was kept
    first = taught(plan_of(tiny_model, tmp_path / "1", OSF, ("banking",), training=wild))
    both = taught(plan_of(tiny_model, tmp_path / "2", OSF, training=wild))
    middle, end = weights_of(first), weights_of(both)
    for change, left, right in moved(middle, end, 0.5).values():
        assert left < 1e-3 * change
        assert right < 1e-3 * change
    assert max(left / change for change, left, _ in moved(start, end, 0.5).values()) > 0.05


def test_embeddings_norms_and_biases_never_move(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, OSF, training=SHAKY)
    base = {k: v.clone() for k, v in teacher_of(plan).model.backbone.state_dict().items()}
    teacher = taught(plan)
    matrices = {f"{name}.weight" for name in linear_layers(teacher.model)}
    for name, tensor in teacher.model.backbone.state_dict().items():
        assert torch.equal(tensor, base[name]) == (name not in matrices)


def test_a_worker_that_decomposed_otherwise_takes_the_first_one_s_directions(tiny_model):
    class SecondOf(RankOf):
        """The second of two, whose first one kept no direction at all."""

        def sum(self, tensors):
            self.seen = [tensor.clone() for tensor in tensors]

    workers = SecondOf(1, 2)
    begun(tiny_model, workers=workers)
    assert len(workers.seen) == 36
    assert all(not tensor.any() for tensor in workers.seen)


def test_directions_are_held_in_the_middle_of_a_task_only(tiny_model):
    _, method, ctx = begun(tiny_model)
    state = method.state_dict()
    assert len(state.tensors) == 36
    other = Osf(OsfConfig())
    other.load_state_dict(state)
    again = other.state_dict().tensors
    assert all(torch.equal(tensor, again[name]) for name, tensor in state.tensors.items())
    method.end_task(ctx)
    assert not method.state_dict().tensors


def learned(workers, plan):
    return knowledge(taught(plan, workers=workers))


def test_a_worker_without_rows_puts_its_weights_back_too(tiny_model, tmp_path):
    # 24 rows in batches of 23: in one step of the epoch a worker has none.
    training = {"batch_size": 23, "num_epochs": 2}
    plan = plan_of(tiny_model, tmp_path, OSF, ("banking",), training=training)
    one, two = in_group(2, tmp_path / "found", learned, plan)
    assert differences(one, two) == []
