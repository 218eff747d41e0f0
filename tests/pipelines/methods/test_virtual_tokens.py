"""Covers `mam`, `prefix`, `prompt`, `task_parts`, `models.virtual_tokens`.

Prefix, prompt and mix-and-match: the trained tokens are seen, and nothing else moves.
"""

import copy

import pytest
import torch
from peft import PeftModel
from torch.nn import functional
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    BertConfig,
    CamembertConfig,
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
from ratchet.pipelines.methods.lwf import frozen_copy
from ratchet.pipelines.methods.mam import Mam
from ratchet.pipelines.methods.prefix import Prefix
from ratchet.pipelines.methods.prompt import Prompt
from ratchet.pipelines.models.causal_lm import load_causal_lm
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.models.virtual_tokens import PrefixPart, PromptPart
from ratchet.pipelines.spec.methods.adapters import MamConfig, PrefixConfig, PromptConfig
from ratchet.pipelines.types import Task
from ratchet.pipelines.version import read_weights, write_weights
from tests.pipelines.methods.test_adapter import SMALL
from tests.tiny_lm import save_tiny_decoder

FIRST, SECOND = Task(0, "a", (0, 1)), Task(1, "b", (2, 3))
INPUTS = {
    "input_ids": torch.tensor([[2, 6, 7, 8, 3], [2, 9, 3, 0, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
}
METHODS = {
    "prefix": (Prefix, PrefixConfig, {"length": 3}),
    "prompt": (Prompt, PromptConfig, {"length": 3}),
    "mam": (Mam, MamConfig, {"length": 3, "bottleneck": 3}),
}
PARTS = [PrefixPart, PromptPart]
ENCODERS = [BertConfig, CamembertConfig, ElectraConfig, RobertaConfig]
DECODERS = [
    LlamaConfig,
    Qwen2Config,
    Qwen3Config,
    GemmaConfig,
    GPT2Config,
    GPTNeoXConfig,
]
GROUPED = [LlamaConfig, MistralConfig, Qwen2Config, Qwen3Config, GemmaConfig]


@pytest.fixture(scope="module")
def tiny_decoder(tmp_path_factory):
    return save_tiny_decoder(tmp_path_factory.mktemp("tiny_lm"))


def tuned(folder, kind, tasks=(FIRST,), load=load_classifier, **settings):
    model = load(str(folder)).eval()
    method, config, defaults = METHODS[kind]
    method = method(config(**defaults, **settings))
    for task in tasks:
        method.expand(model, task)
    method.activate(model, tasks[-1].id)
    return model, method


def fill(model, name="shared", scale=1.0):
    """Give a set of every part values that show."""
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for part in model.parts.values():
            for parameter in part.sets[name].parameters():
                parameter.copy_(scale * torch.randn(parameter.shape, generator=numbers))


def backbone_of(config, **changes):
    torch.manual_seed(0)
    kind = AutoModelForCausalLM if config in (*DECODERS, MistralConfig) else AutoModel
    grouped = {"num_key_value_heads": 1, "head_dim": 8} if config in GROUPED else {}
    settings = config(**SMALL | {"initializer_range": 0.3} | grouped | changes)
    return kind.from_config(settings).eval()


def part_on(backbone, kind, length=3):
    part = kind(backbone, length, "FEATURE_EXTRACTION")
    part.add("shared")
    part.choose("shared")
    with torch.no_grad():
        part.sets["shared"].embedding.weight.normal_()
    return part


def attention_by_hand(layer, x, keys, values, mask):
    """BERT's attention with keys and values [length, dim] before those of the text."""
    own, heads = layer.attention.self, layer.attention.self.num_attention_heads
    rows = len(x)
    k = torch.cat([keys.expand(rows, -1, -1), own.key(x)], dim=1)
    v = torch.cat([values.expand(rows, -1, -1), own.value(x)], dim=1)
    q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (own.query(x), k, v))
    scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
    mask = functional.pad(mask, (len(keys), 0), value=1)
    scores = scores.masked_fill(mask[:, None, None, :] == 0, float("-inf"))
    return (scores.softmax(dim=-1) @ v).transpose(1, 2).flatten(2)


def test_a_prefix_is_keys_and_values_before_the_text_in_every_layer(tiny_model):
    model, _ = tuned(tiny_model, "prefix")
    fill(model)
    weight = model.parts["prefix"].sets["shared"].embedding.weight
    backbone = model.backbone
    with torch.no_grad():
        states = weight.unflatten(1, (2, 2, 32))  # [length, layer, key or value, dim]
        x = backbone.embeddings(input_ids=INPUTS["input_ids"])
        for index, layer in enumerate(backbone.encoder.layer):
            keys, values = states[:, index, 0], states[:, index, 1]
            mixed = attention_by_hand(layer, x, keys, values, INPUTS["attention_mask"])
            x = layer.attention.output(mixed, x)
            x = layer.output(layer.intermediate(x), x)
        found = backbone(**INPUTS).last_hidden_state
    real = INPUTS["attention_mask"].bool()
    torch.testing.assert_close(found[real], x[real])


def test_a_prompt_is_embeddings_before_the_text_whose_states_are_cut_off(tiny_model):
    model, _ = tuned(tiny_model, "prompt")
    fill(model)
    plain = load_classifier(str(tiny_model)).eval().backbone
    weight = model.parts["prompt"].sets["shared"].embedding.weight
    words = plain.embeddings.word_embeddings(INPUTS["input_ids"])
    positions = torch.tensor([[0, 0, 0, 0, 1, 2, 3, 4]]).expand(2, -1)
    with torch.no_grad():
        wanted = plain(
            inputs_embeds=torch.cat([weight.expand(2, -1, -1), words], dim=1),
            attention_mask=functional.pad(INPUTS["attention_mask"], (3, 0), value=1),
            position_ids=positions,
        ).last_hidden_state[:, 3:]
        found = model.backbone(**INPUTS, output_hidden_states=True)
    real = INPUTS["attention_mask"].bool()
    torch.testing.assert_close(found.last_hidden_state[real], wanted[real])
    assert {len(states[0]) for states in found.hidden_states} == {5}


def test_a_prompt_starts_as_embeddings_of_the_vocabulary(tiny_model):
    model, _ = tuned(tiny_model, "prompt")
    rows = model.parts["prompt"].sets["shared"].embedding.weight
    words = model.backbone.embeddings.word_embeddings.weight
    assert all(any(torch.equal(row, word) for word in words) for row in rows)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("config", ENCODERS, ids=lambda c: c.__name__)
def test_an_encoder_s_padding_is_not_seen_and_its_text_keeps_its_positions(config, part):
    backbone = backbone_of(config)
    made = part_on(backbone, part)
    one, two = INPUTS["input_ids"].clone(), INPUTS["attention_mask"]
    short = {"input_ids": one[1:, :3], "attention_mask": two[1:, :3]}
    with torch.no_grad():
        found = backbone(**INPUTS).last_hidden_state
        assert found.shape == (2, 5, 16)
        torch.testing.assert_close(backbone(**short).last_hidden_state[0], found[1, :3])
        made.silent = True
        assert not torch.allclose(found, backbone(**INPUTS).last_hidden_state, atol=0.01)
        long = {k: v[:, :1].repeat(1, 28) for k, v in short.items()}
        made.silent = False  # with 3 trained tokens, a shifted text would leave the table of 32
        assert (
            backbone(**long | {"input_ids": long["input_ids"] + 3})
            .last_hidden_state.isfinite()
            .all()
        )


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("config", DECODERS, ids=lambda c: c.__name__)
def test_a_decoder_generates_what_its_forward_pass_says_also_in_a_padded_batch(config, part):
    backbone = backbone_of(config)
    made = part_on(backbone, part)
    texts = [torch.tensor([[6, 7, 8]]), torch.tensor([[9, 12, 5, 6, 11, 20]])]
    wanted = []
    for text in texts:
        for _ in range(4):
            with torch.no_grad():
                logits = backbone(input_ids=text, attention_mask=torch.ones_like(text)).logits
            assert logits.shape[1] == text.shape[1]
            text = torch.cat([text, logits[:, -1:].argmax(dim=-1)], dim=1)
        wanted.append(text[0, -4:].tolist())
    width = 6
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    found = backbone.generate(
        input_ids=torch.cat([functional.pad(t, (width - t.shape[1], 0)) for t in texts]),
        attention_mask=torch.cat(
            [functional.pad(torch.ones_like(t), (width - t.shape[1], 0)) for t in texts]
        ),
        **settings,
    )
    assert found[:, width:].tolist() == wanted
    uncached = backbone.generate(
        input_ids=texts[0], attention_mask=torch.ones(1, 3).long(), use_cache=False, **settings
    )
    assert uncached[0, 3:].tolist() == wanted[0]
    made.silent = True
    plain = backbone.generate(
        input_ids=texts[0], attention_mask=torch.ones(1, 3).long(), **settings
    )
    assert plain[0, 3:].tolist() != wanted[0]


def write_words(backbone, part, words):
    """Make trained tokens of words: their keys and values at a text's beginning, or embeddings."""
    with torch.no_grad():
        if isinstance(part, PromptPart):
            rows = backbone.get_input_embeddings()(words[0])
        else:
            part.silent = True
            cache = backbone(input_ids=words, use_cache=True).cache
            part.silent = False
            states = [s[0].transpose(0, 1) for one in cache.layers for s in (one.keys, one.values)]
            rows = torch.stack(states, dim=1).flatten(1)
        part.sets["shared"].embedding.weight.copy_(rows)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("config", DECODERS, ids=lambda c: c.__name__)
def test_trained_tokens_that_stand_for_words_do_in_a_decoder_what_the_words_do(config, part):
    backbone = backbone_of(config)
    words, text = torch.tensor([[9, 4, 17]]), torch.tensor([[6, 7, 8, 11]])
    whole = torch.cat([words, text], dim=1)
    settings = {"max_new_tokens": 4, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    with torch.no_grad():
        wanted = backbone(input_ids=whole).logits[:, 3:]
    said = backbone.generate(whole, attention_mask=torch.ones_like(whole), **settings)[:, 7:]
    made = part_on(backbone, part)
    write_words(backbone, made, words)
    with torch.no_grad():
        torch.testing.assert_close(backbone(input_ids=text).logits, wanted)
    found = backbone.generate(text, attention_mask=torch.ones_like(text), **settings)
    assert found[:, 4:].tolist() == said.tolist()


@pytest.mark.parametrize("kind", METHODS)
def test_a_language_model_is_taught_through_its_trained_tokens(tiny_decoder, kind):
    model, _ = tuned(tiny_decoder, kind, load=load_causal_lm)
    inputs = INPUTS | {"completion_mask": INPUTS["attention_mask"]}
    part = model.parts["mam_prefix" if kind == "mam" else kind]
    words = torch.tensor([[9, 4, 17]])
    whole = torch.cat([words, INPUTS["input_ids"][:1]], dim=1)
    with torch.no_grad():
        wanted = load_causal_lm(str(tiny_decoder)).eval().backbone(input_ids=whole).logits[:, 3:]
    write_words(model.backbone, part, words)
    logits = model.train()(inputs).logits
    torch.testing.assert_close(logits[:1], wanted)
    logits.square().sum().backward()
    gradient = part.sets["shared"].embedding.weight.grad
    assert (gradient.abs().amax(dim=0) > 0).all()


@pytest.mark.filterwarnings("ignore:`past_key_values` is deprecated:FutureWarning")  # PEFT's own
@pytest.mark.parametrize("kind", ["prefix", "prompt"])
def test_a_decoder_s_adapter_lies_in_peft_s_format_and_peft_gives_the_same_logits(
    tiny_decoder, tmp_path, kind
):
    model, _ = tuned(tiny_decoder, kind, load=load_causal_lm)
    fill(model, scale=0.5)
    write_weights(tmp_path, model)
    plain = load_causal_lm(str(tiny_decoder)).eval()
    theirs = PeftModel.from_pretrained(plain.backbone, tmp_path / "adapters" / "shared").eval()
    with torch.no_grad():
        wanted = theirs(**INPUTS).logits[:, -5:]
        inputs = INPUTS | {"completion_mask": INPUTS["attention_mask"]}
        found = model(inputs).logits
    real = INPUTS["attention_mask"].bool()
    torch.testing.assert_close(found[real], wanted[real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("per_task", [False, True])
def test_weights_survive_the_disk(tiny_model, tmp_path, kind, per_task):
    tasks = (FIRST, SECOND)
    model, method = tuned(tiny_model, kind, tasks, per_task=per_task)
    names = ["task_000", "task_001"] if per_task else ["shared"]
    for place, name in enumerate(names):
        fill(model, name, scale=1.0 + place)
    write_weights(tmp_path, model)
    assert sorted(path.name for path in (tmp_path / "adapters").iterdir()) == names
    other, _ = tuned(tiny_model, kind, tasks, per_task=per_task)
    read_weights(tmp_path, other)
    for name, tensor in model.learned_state().items():
        assert torch.equal(other.learned_state()[name], tensor)
    for task in tasks:
        method.activate(model, task.id)
        method.activate(other, task.id)
        with torch.no_grad():
            assert torch.equal(model.features(INPUTS), other.features(INPUTS))


@pytest.mark.parametrize("kind", METHODS)
def test_each_task_is_answered_by_its_own_set_and_only_that_trains(tiny_model, kind):
    model, method = tuned(tiny_model, kind, (FIRST, SECOND), per_task=True)
    assert model.has_task_adapters
    method.activate(model, 0)
    prints = model.fingerprint(0), model.fingerprint(1)
    assert all(".task_000." in name for name in model.trainable())
    with torch.no_grad():
        before = model.features(INPUTS)
        fill(model, "task_001")
        assert torch.equal(model.features(INPUTS), before)
        method.activate(model, 1)
        assert not torch.allclose(model.features(INPUTS), before)
    assert model.fingerprint(0) == prints[0]
    assert model.fingerprint(1) != prints[1]
    assert all(".task_001." in name for name in model.trainable())


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("load", [load_classifier, load_causal_lm], ids=lambda f: f.__name__)
def test_base_features_are_exactly_the_base_s(tiny_model, tiny_decoder, kind, load):
    folder = tiny_model if load is load_classifier else tiny_decoder
    plain = load(str(folder)).eval()
    model, _ = tuned(folder, kind, load=load)
    fill(model)
    inputs = INPUTS | {"completion_mask": torch.zeros_like(INPUTS["input_ids"])}
    inputs = INPUTS if load is load_classifier else inputs
    trainable = set(model.trainable())
    with torch.no_grad():
        before = model.features(inputs)
        assert torch.equal(model.base_features(inputs), plain.base_features(inputs))
        assert torch.equal(model.features(inputs), before)
        assert not torch.allclose(before, plain.features(inputs))
    assert set(model.trainable()) == trainable


@pytest.mark.parametrize(("kind", "length"), [("prefix", 3), ("prompt", 3), ("mam", 3)])
def test_a_decoder_s_context_shrinks_by_the_trained_tokens_once(tiny_decoder, kind, length):
    before = load_causal_lm(str(tiny_decoder)).context
    model, _ = tuned(tiny_decoder, kind, (FIRST, SECOND), load=load_causal_lm, per_task=True)
    assert model.context == before - length
    prompt = torch.full((before - length - 2,), 6)
    assert len(model.generate([prompt], 10)[0]) <= 2


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("copied", [copy.deepcopy, frozen_copy], ids=lambda f: f.__name__)
def test_a_copy_has_tokens_of_its_own(tiny_model, kind, copied):
    model, _ = tuned(tiny_model, kind)
    fill(model)
    with torch.no_grad():
        before = model.features(INPUTS)
        other = copied(model)
        assert torch.equal(other.features(INPUTS), before)
        fill(model, scale=2.0)
        assert torch.equal(other.features(INPUTS), before)
        assert not torch.allclose(model.features(INPUTS), before)


@pytest.mark.parametrize("kind", METHODS)
def test_trained_tokens_work_in_reduced_precision(tiny_model, kind):
    model, _ = tuned(tiny_model, kind)
    fill(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = model.features(INPUTS)
    with torch.no_grad():
        torch.testing.assert_close(found, model.features(INPUTS), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("part", PARTS)
def test_an_unknown_architecture_is_refused_before_anything_changes(part):
    backbone = backbone_of(DistilBertConfig)
    with pytest.raises(MethodError, match=r"cannot put trained tokens .* 'distilbert'; it knows"):
        part(backbone, 3, "FEATURE_EXTRACTION")
    assert not backbone._forward_pre_hooks


def test_a_prefix_that_a_sliding_window_would_leave_behind_is_refused():
    backbone = backbone_of(MistralConfig, sliding_window=8)
    with pytest.raises(MethodError, match="sliding attention window of 8 tokens"):
        PrefixPart(backbone, 3, "CAUSAL_LM")
    assert not backbone.base_model._forward_pre_hooks
    PrefixPart(backbone_of(MistralConfig, sliding_window=None), 3, "CAUSAL_LM")


@pytest.mark.parametrize("part", PARTS)
def test_a_text_that_leaves_no_room_in_a_decoder_is_refused(part):
    backbone = backbone_of(GPT2Config)
    part_on(backbone, part)
    text = torch.full((1, 30), 6)
    with pytest.raises(
        MethodError, match=r"3 tokens of .* and a text of 30 do not fit into the 32"
    ):
        backbone(input_ids=text, attention_mask=torch.ones_like(text))


def test_a_prefix_under_gradient_checkpointing_is_refused():
    backbone = backbone_of(LlamaConfig)
    part_on(backbone, PrefixPart)
    backbone.activation_checkpointing_enable()
    with pytest.raises(MethodError, match=r"training\.gradient_checkpointing: true"):
        backbone.train()(**INPUTS)
