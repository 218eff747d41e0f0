import pytest
import torch

from ratchet.pipelines.methods.lora import Lora
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.spec.methods.isolation import LoraConfig
from ratchet.pipelines.types import Task

FIRST, SECOND = Task(0, "a", (0, 1)), Task(1, "b", (2, 3))
INPUTS = {"input_ids": torch.tensor([[2, 6, 7, 3]]), "attention_mask": torch.ones(1, 4).long()}


def adapted(folder, tasks=(FIRST,), **settings):
    model = load_classifier(str(folder)).eval()
    lora = Lora(LoraConfig(rank=2, alpha=8.0, **settings))
    for task in tasks:
        lora.expand(model, task)
    lora.activate(model, tasks[-1].id)
    return model, lora


def fill(model, adapter, scale=0.3):
    """Give the second factor of an adapter values: it starts at zero."""
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if f"lora_B.{adapter}" in name:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=numbers))


def test_a_new_adapter_starts_as_the_base_model(tiny_model):
    plain = load_classifier(str(tiny_model)).eval()
    model, _ = adapted(tiny_model)
    with torch.no_grad():
        torch.testing.assert_close(model.features(INPUTS), plain.features(INPUTS))


def test_an_adapter_adds_alpha_over_rank_times_b_a_to_every_linear_layer(tiny_model):
    model, _ = adapted(tiny_model)
    fill(model, "shared")
    plain = load_classifier(str(tiny_model)).eval()
    state, changed = model.backbone.state_dict(), 0
    with torch.no_grad():
        for name, module in plain.backbone.named_modules():
            if isinstance(module, torch.nn.Linear):
                a = state[f"base_model.model.{name}.lora_A.shared.weight"]
                b = state[f"base_model.model.{name}.lora_B.shared.weight"]
                assert a.shape[0] == b.shape[1] == 2
                module.weight += (8.0 / 2) * b @ a
                changed += 1
        assert changed == 12  # six linear layers in each of two blocks
        torch.testing.assert_close(model.features(INPUTS), plain.features(INPUTS))


def test_the_base_stays_frozen_and_only_the_active_adapter_trains(tiny_model):
    model, lora = adapted(tiny_model, (FIRST, SECOND), per_task=True)
    for active in (0, 1, 0):
        lora.activate(model, active)
        names = set(model.trainable())
        assert names
        assert all(f"task_00{active}" in name for name in names)


def test_each_task_is_answered_by_its_own_adapter(tiny_model):
    model, lora = adapted(tiny_model, (FIRST, SECOND), per_task=True)
    lora.activate(model, 0)
    with torch.no_grad():
        before = model.features(INPUTS)
        fill(model, "task_001")
        assert torch.equal(model.features(INPUTS), before)
        lora.activate(model, 1)
        assert not torch.allclose(model.features(INPUTS), before)


@pytest.mark.parametrize(("per_task", "adapters"), [(False, 1), (True, 2)])
def test_expanding_adds_what_is_missing_once(tiny_model, per_task, adapters):
    tasks = (FIRST, SECOND, SECOND, FIRST)
    model, _ = adapted(tiny_model, tasks, per_task=per_task)
    assert len(model.backbone.peft_config) == adapters
    assert model.has_task_adapters == per_task


def test_base_features_ignore_the_adapters_and_leave_them_active(tiny_model):
    plain = load_classifier(str(tiny_model)).eval()
    model, _ = adapted(tiny_model)
    fill(model, "shared")
    trainable = set(model.trainable())
    with torch.no_grad():
        adapted_features = model.features(INPUTS)
        torch.testing.assert_close(model.base_features(INPUTS), plain.base_features(INPUTS))
        assert torch.equal(model.features(INPUTS), adapted_features)
    assert set(model.trainable()) == trainable
