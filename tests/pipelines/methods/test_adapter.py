"""Covers, beside `adapter`: `models.bottleneck`, `models.sublayers`, `models.part`."""

import copy
import itertools

import pytest
import torch
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
)

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.adapter import Adapter
from ratchet.pipelines.methods.lwf import frozen_copy
from ratchet.pipelines.models.bottleneck import BottleneckPart
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.models.sublayers import sublayers_of
from ratchet.pipelines.spec.methods.adapters import AdapterConfig
from ratchet.pipelines.types import Task

FIRST, SECOND = Task(0, "a", (0, 1)), Task(1, "b", (2, 3))
INPUTS = {
    "input_ids": torch.tensor([[2, 6, 7, 8, 3], [2, 9, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
VARIANTS = ["houlsby", "pfeiffer", "parallel"]
SMALL = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "pad_token_id": 0,
}
ENCODERS = [CamembertConfig, ElectraConfig, RobertaConfig, DistilBertConfig]
DECODERS = [
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
]


def adapted(folder, tasks=(FIRST,), **settings):
    model = load_classifier(str(folder)).eval()
    adapter = Adapter(AdapterConfig(bottleneck=3, **settings))
    for task in tasks:
        adapter.expand(model, task)
    adapter.activate(model, tasks[-1].id)
    return model, adapter


def fill(part, name="shared", scale=0.5):
    """Give a set of adapters values: its second matrices start at zero."""
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in part.sets[name].parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=numbers))


def through(part, place, x):
    """W2 relu(W1 x), by hand."""
    weights = part.sets["shared"][place].state_dict()
    hidden = functional.relu(x @ weights["down.weight"].T + weights["down.bias"])
    return hidden @ weights["up.weight"].T + weights["up.bias"]


def encoder_by_hand(model, variant, scale):
    """The states of the encoder, its blocks written out, with the adapters where they belong."""
    part, backbone = model.parts["adapter"], model.backbone
    x = backbone.embeddings(input_ids=INPUTS["input_ids"])
    hidden_from = (1.0 - INPUTS["attention_mask"][:, None, None, :]) * torch.finfo(x.dtype).min
    for index, layer in enumerate(backbone.encoder.layer):
        attention, place = layer.attention, f"block_{index:02d}"
        h = attention.output.dense(attention.self(x, attention_mask=hidden_from)[0])
        if variant == "houlsby":
            h = h + through(part, f"{place}_attention", h)
        x = attention.output.LayerNorm(h + x)
        h = layer.output.dense(layer.intermediate(x))
        if variant == "parallel":
            h = h + scale * through(part, f"{place}_beside", x)
        else:
            h = h + through(part, f"{place}_feed_forward", h)
        x = layer.output.LayerNorm(h + x)
    return x


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_new_set_starts_as_the_base_model(tiny_model, variant):
    plain = load_classifier(str(tiny_model)).eval()
    model, _ = adapted(tiny_model, variant=variant)
    with torch.no_grad():
        assert torch.equal(model.features(INPUTS), plain.features(INPUTS))


@pytest.mark.parametrize("variant", VARIANTS)
def test_adapters_lie_where_the_paper_puts_them(tiny_model, variant):
    model, _ = adapted(tiny_model, variant=variant, scale=2.5)
    fill(model.parts["adapter"])
    real = INPUTS["attention_mask"].bool()
    with torch.no_grad():
        found = model.backbone(**INPUTS).last_hidden_state
        model.parts["adapter"].silent = True
        plain = model.backbone(**INPUTS).last_hidden_state
        wanted = encoder_by_hand(model, variant, 2.5)
    torch.testing.assert_close(found[real], wanted[real])
    assert not torch.allclose(found[real], plain[real], atol=0.1)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("config", [*ENCODERS, *DECODERS], ids=lambda c: c.__name__)
def test_every_known_architecture_is_changed_block_by_block(config, variant):
    torch.manual_seed(0)
    kind = AutoModelForCausalLM if config in DECODERS else AutoModel
    grouped = {"num_key_value_heads": 1, "head_dim": 8} if config in DECODERS[:5] else {}
    backbone = kind.from_config(config(**SMALL, **grouped)).eval()
    inputs = {"input_ids": INPUTS["input_ids"], "attention_mask": INPUTS["attention_mask"]}
    with torch.no_grad():
        plain = backbone(**inputs)[0]
        part = BottleneckPart(sublayers_of(backbone, "adapter"), 16, 3, variant, 4.0)
        part.add("shared")
        part.choose("shared")
        assert torch.equal(backbone(**inputs)[0], plain)
        seen = [backbone(**inputs)[0]]
        for place in part.places:
            for parameter in part.sets["shared"][place].parameters():
                parameter.normal_()  # a constant would vanish in the norms
            seen.append(backbone(**inputs)[0])
    assert len(part.places) == (4 if variant == "houlsby" else 2)
    for before, after in itertools.pairwise(seen):
        assert not torch.allclose(before, after)


def test_llama_has_its_adapters_inside_the_residual():
    torch.manual_seed(0)
    backbone = AutoModel.from_config(LlamaConfig(**SMALL)).eval()
    part = BottleneckPart(sublayers_of(backbone, "adapter"), 16, 3, "parallel", 2.0)
    part.add("shared")
    part.choose("shared")
    fill(part)
    layer = backbone.layers[0]
    with torch.no_grad():
        x = torch.randn(1, 4, 16)
        wanted = layer.mlp.down_proj(
            functional.silu(layer.mlp.gate_proj(x)) * layer.mlp.up_proj(x)
        ) + 2.0 * through(part, "block_00_beside", x)
        torch.testing.assert_close(layer.mlp(x), wanted)


def test_an_unknown_architecture_is_refused_before_anything_changes():
    backbone = AutoModel.from_config(DebertaV2Config(**SMALL))
    with pytest.raises(
        MethodError, match=r"adapter does not know .* 'deberta-v2'; it knows .*bert"
    ):
        sublayers_of(backbone, "adapter")
    assert all(not module._forward_hooks for module in backbone.modules())


def test_the_base_stays_frozen_and_only_the_chosen_set_trains(tiny_model):
    model, adapter = adapted(tiny_model, (FIRST, SECOND), per_task=True)
    for active in (0, 1, 0):
        adapter.activate(model, active)
        names = set(model.trainable())
        assert names
        assert all(f".task_00{active}." in name for name in names)


def test_each_task_is_answered_by_its_own_set(tiny_model):
    model, adapter = adapted(tiny_model, (FIRST, SECOND), per_task=True)
    adapter.activate(model, 0)
    prints = model.fingerprint(0), model.fingerprint(1)
    with torch.no_grad():
        before = model.features(INPUTS)
        fill(model.parts["adapter"], "task_001")
        assert torch.equal(model.features(INPUTS), before)
        adapter.activate(model, 1)
        assert not torch.allclose(model.features(INPUTS), before)
    assert model.fingerprint(0) == prints[0]
    assert model.fingerprint(1) != prints[1]


@pytest.mark.parametrize(("per_task", "sets"), [(False, 1), (True, 2)])
def test_expanding_adds_what_is_missing_once(tiny_model, per_task, sets):
    tasks = (FIRST, SECOND, SECOND, FIRST)
    model, _ = adapted(tiny_model, tasks, per_task=per_task)
    assert len(model.parts["adapter"].sets) == sets
    assert model.has_task_adapters == per_task
    hooks = [len(module._forward_hooks) for module in model.backbone.modules()]
    assert max(hooks) == 1


@pytest.mark.parametrize("variant", VARIANTS)
def test_base_features_ignore_the_adapters_and_leave_them_active(tiny_model, variant):
    plain = load_classifier(str(tiny_model)).eval()
    model, _ = adapted(tiny_model, variant=variant)
    fill(model.parts["adapter"])
    trainable = set(model.trainable())
    with torch.no_grad():
        adapted_features = model.features(INPUTS)
        assert torch.equal(model.base_features(INPUTS), plain.base_features(INPUTS))
        assert torch.equal(model.features(INPUTS), adapted_features)
    assert set(model.trainable()) == trainable


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("copied", [copy.deepcopy, frozen_copy], ids=lambda f: f.__name__)
def test_a_copy_has_adapters_of_its_own(tiny_model, variant, copied):
    model, _ = adapted(tiny_model, variant=variant)
    fill(model.parts["adapter"])
    with torch.no_grad():
        before = model.features(INPUTS)
        other = copied(model)
        assert torch.equal(other.features(INPUTS), before)
        fill(model.parts["adapter"], scale=1.0)
        assert torch.equal(other.features(INPUTS), before)
        assert not torch.allclose(model.features(INPUTS), before)
