"""Covers `importance.engine`, `importance.mean`, `importance.measured_modules`,
`importance.row_by_row`, `importance.rules`.
"""

from __future__ import annotations

import logging

import peft
import pytest
import torch
import transformers
from torch import nn
from torch.nn import functional

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.importance import squared_gradients
from ratchet.pipelines.models.heads import CosineBlock
from ratchet.pipelines.types import Batch, Output

CLASSES = 5


class Encoder(nn.Module):
    """A small BERT with a head, and the forward of a classifier."""

    def __init__(self, head: nn.Module | None = None, dropout: float = 0.1, implementation="sdpa"):
        super().__init__()
        config = transformers.BertConfig(
            vocab_size=50,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=4,
            intermediate_size=64,
            max_position_embeddings=24,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            attn_implementation=implementation,
        )
        self.backbone = transformers.BertModel(config, add_pooling_layer=False)
        self.head = head or nn.Linear(32, CLASSES)

    def forward(self, inputs):
        hidden = self.backbone(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].float()
        features = (hidden * mask).sum(1) / mask.sum(1)
        return Output(logits=self.head(features), features=features)


class Pair(nn.Module):
    """Logits [0, w x + b]: two parameters."""

    def __init__(self, weight: float, bias: float):
        super().__init__()
        self.line = nn.Linear(1, 1)
        nn.init.constant_(self.line.weight, weight)
        nn.init.constant_(self.line.bias, bias)

    def forward(self, inputs):
        logit = self.line(inputs["x"])
        return Output(logits=torch.cat([torch.zeros_like(logit), logit], 1), features=inputs["x"])


def make_batch(inputs, targets) -> Batch:
    rows = len(targets)
    return Batch(
        inputs=inputs,
        targets=targets,
        weights=torch.ones(rows),
        task_ids=torch.zeros(rows, dtype=torch.long),
        rows=torch.arange(rows),
        parts={"new": slice(0, rows)},
    )


def token_batches(lengths=(7, 3, 9, 5, 8, 6), size=6, width=9, seed=0) -> list[Batch]:
    """The same sentences in batches of any size, padded to any width; tokens repeat within one."""
    generator = torch.Generator().manual_seed(seed)
    tokens = [torch.randint(1, 12, (length,), generator=generator) for length in lengths]
    targets = torch.randint(0, CLASSES, (len(lengths),), generator=generator)
    ids = torch.stack([functional.pad(row, (0, width - len(row))) for row in tokens])
    mask = torch.stack([(torch.arange(width) < len(row)).long() for row in tokens])
    return [
        make_batch(
            {"input_ids": ids[i : i + size], "attention_mask": mask[i : i + size]},
            targets[i : i + size],
        )
        for i in range(0, len(lengths), size)
    ]


def log_likelihood(batch: Batch, output: Output) -> torch.Tensor:
    return -functional.cross_entropy(output.logits, batch.targets, reduction="none")


def example_gradients(model, parameters, batches, objective=log_likelihood):
    """Oracle: torch.func gradients of each example alone, [examples, ...]."""
    model.eval()
    values = {name: value.detach() for name, value in parameters.items()}
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    translate = {name: names[id(value)] for name, value in parameters.items()}

    def scalar(values, inputs, target):
        batch = make_batch({k: v[None] for k, v in inputs.items()}, target[None])
        state = {translate[name]: value for name, value in values.items()}
        return objective(batch, torch.func.functional_call(model, state, (batch.inputs,)))[0]

    grad = torch.func.grad(scalar)
    each = [
        grad(values, {k: v[i] for k, v in batch.inputs.items()}, batch.targets[i])
        for batch in batches
        for i in range(len(batch))
    ]
    return {name: torch.stack([one[name].detach() for one in each]) for name in parameters}


def assert_same_sums(found, expected, power=2, relative=1e-5):
    assert found.keys() == expected.keys()
    largest = max(float(value.max()) for value in expected.values())
    for name, value in expected.items():
        error = float((found[name] - value).norm())
        assert error <= relative * float(value.norm()) + 3e-7**power * largest, name


def squares(gradients):
    return {name: value.square().sum(0) for name, value in gradients.items()}


def test_two_parameters_match_the_hand_computed_fisher():
    # p = sigmoid(w x + b) is 1/2 at w = b = 0; d log p(1) = (1 - p)(x, 1), d log p(0) = -p (x, 1).
    model = Pair(0.0, 0.0)
    batch = make_batch({"x": torch.tensor([[1.0], [3.0], [-2.0]])}, torch.tensor([1, 0, 1]))
    result = squared_gradients(model, dict(model.named_parameters()), [batch], log_likelihood)
    assert result.num_examples == 3
    torch.testing.assert_close(result.sums["line.weight"], torch.tensor([[14 / 4]]))
    torch.testing.assert_close(result.sums["line.bias"], torch.tensor([3 / 4]))


def test_absolute_values_match_the_hand_computed_sum():
    model = Pair(0.0, 0.0)
    batch = make_batch({"x": torch.tensor([[1.0], [3.0], [-2.0]])}, torch.tensor([1, 0, 1]))
    parameters = dict(model.named_parameters())
    result = squared_gradients(model, parameters, [batch], log_likelihood, power=1)
    torch.testing.assert_close(result.sums["line.weight"], torch.tensor([[6 / 2]]))
    torch.testing.assert_close(result.sums["line.bias"], torch.tensor([3 / 2]))


@pytest.mark.parametrize("head", ["linear", "cosine"])
@pytest.mark.parametrize("power", [1, 2])
def test_every_parameter_of_a_transformer_matches_single_example_gradients(head, power, caplog):
    torch.manual_seed(0)
    model = Encoder(CosineBlock(32, CLASSES, 4.0) if head == "cosine" else None)
    parameters = dict(model.named_parameters())
    batches = token_batches()
    with caplog.at_level(logging.WARNING):
        result = squared_gradients(model, parameters, batches, log_likelihood, power=power)
    each = example_gradients(model, parameters, batches)
    assert_same_sums(result.sums, {k: v.abs().pow(power).sum(0) for k, v in each.items()}, power)
    assert not caplog.records  # nothing went the slow way


def test_the_square_is_taken_per_example_and_not_of_the_batch_mean():
    torch.manual_seed(0)
    model = Encoder()
    parameters = dict(model.named_parameters())
    result = squared_gradients(model, parameters, token_batches(), log_likelihood)
    mean = example_gradients(model, parameters, token_batches())["head.weight"].mean(0)
    assert result.sums["head.weight"].mean() / 6 > 1.5 * mean.square().mean()


@pytest.mark.parametrize(("size", "width"), [(1, 9), (2, 9), (4, 9), (6, 24)])
def test_neither_batch_size_nor_padding_changes_the_result(size, width):
    torch.manual_seed(0)
    model = Encoder()
    parameters = dict(model.named_parameters())
    whole = squared_gradients(model, parameters, token_batches(), log_likelihood)
    other = squared_gradients(
        model, parameters, token_batches(size=size, width=width), log_likelihood
    )
    assert other.num_examples == 6
    assert_same_sums(other.sums, whole.sums)


def test_lone_rows_before_and_after_full_batches_are_counted_once():
    torch.manual_seed(0)
    model = Encoder()
    parameters = dict(model.named_parameters())
    one_by_one = token_batches(size=1)
    mixed = [one_by_one[0], *token_batches(size=2)[1:], one_by_one[1]]
    found = squared_gradients(model, parameters, mixed, log_likelihood)
    whole = squared_gradients(model, parameters, token_batches(), log_likelihood)
    assert found.num_examples == whole.num_examples == 6
    assert_same_sums(found.sums, whole.sums)


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_lora_adapters_match_single_example_gradients(caplog):
    torch.manual_seed(0)
    model = Encoder()
    config = peft.LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.1, init_lora_weights=False
    )
    model.backbone = peft.get_peft_model(model.backbone, config)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sum("lora_B" in name for name in parameters) == 12
    result = squared_gradients(model, parameters, token_batches(), log_likelihood)
    assert_same_sums(result.sums, squares(example_gradients(model, parameters, token_batches())))
    assert not caplog.records


def test_a_subset_of_the_parameters_is_measured_alone():
    torch.manual_seed(0)
    model = Encoder()
    every = dict(model.named_parameters())
    some = {name: every[name] for name in every if "layer.1" in name or "head" in name}
    found = squared_gradients(model, some, token_batches(), log_likelihood).sums
    whole = squared_gradients(model, every, token_batches(), log_likelihood).sums
    assert_same_sums(found, {name: whole[name] for name in some})


def test_the_model_and_the_random_state_are_left_as_they_were():
    torch.manual_seed(0)
    model = Encoder(nn.Sequential(nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Linear(32, CLASSES)))
    model.train()
    model.backbone.encoder.layer[0].eval()
    model.backbone.embeddings.requires_grad_(False)
    model.head[2].bias.grad = torch.full((CLASSES,), 7.0)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    state = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}

    first = squared_gradients(model, parameters, token_batches(), log_likelihood)
    second = squared_gradients(model, parameters, token_batches(), log_likelihood)

    assert [module.training for module in model.modules()] == modes
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert torch.equal(torch.get_rng_state(), random_state)
    for name, value in model.state_dict().items():
        assert torch.equal(value, state[name]), name
    for name, parameter in model.named_parameters():
        if name == "head.2.bias":
            assert torch.equal(parameter.grad, torch.full((CLASSES,), 7.0))
        else:
            assert parameter.grad is None
    assert not any(module._forward_hooks for module in model.modules())
    for name in parameters:  # no dropout noise
        assert torch.equal(first.sums[name], second.sums[name])


def test_the_model_is_restored_when_the_objective_fails():
    model = Encoder()
    model.train()
    with pytest.raises(MethodError, match=r"must be \[2\]"):
        squared_gradients(
            model,
            dict(model.named_parameters()),
            token_batches(),
            lambda _, output: output.logits,
        )
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(module._forward_hooks for module in model.modules())


class Unusual(nn.Module):
    """What the rules must notice: repeated calls, tied weights, raw parameters, odd layouts."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind
        self.embedding = nn.Embedding(50, 6, padding_idx=3)
        self.twice = nn.Linear(6, 6)
        self.norm = nn.LayerNorm(6)
        self.head = nn.Linear(6, 50)
        if kind == "tied":
            self.head.weight = self.embedding.weight
        if kind == "raw":
            self.offset = nn.Parameter(torch.randn(6))

    def forward(self, inputs):
        ids = inputs["input_ids"]
        if self.kind == "time_first":
            hidden = self.twice(self.embedding(ids.T)).transpose(0, 1)
        elif self.kind == "functional":
            hidden = functional.linear(self.embedding(ids), self.twice.weight, self.twice.bias)
        elif self.kind == "flat":
            hidden = self.twice(self.embedding(ids).flatten(0, 1)).view(*ids.shape, 6)
        else:
            hidden = self.norm(self.twice(torch.tanh(self.twice(self.embedding(ids)))))
            hidden = hidden + self.norm(self.embedding(ids.flip(1)))
        if self.kind == "raw":
            hidden = hidden * self.offset
        features = torch.tanh(hidden).mean(1)
        return Output(logits=self.head(features), features=features)


@pytest.mark.parametrize(
    ("kind", "is_slow"),
    [
        ("twice", False),
        ("tied", True),
        ("raw", True),
        ("functional", True),
        ("flat", True),
        ("time_first", True),
    ],
)
def test_unusual_models_are_measured_right_and_a_slow_way_is_said(kind, is_slow, caplog):
    torch.manual_seed(1)
    model = Unusual(kind)
    parameters = dict(model.named_parameters())
    batches = token_batches(width=9, size=3)
    with caplog.at_level(logging.WARNING):
        result = squared_gradients(model, parameters, batches, log_likelihood)
    assert_same_sums(result.sums, squares(example_gradients(model, parameters, batches)))
    assert bool(caplog.records) == is_slow


def test_a_batch_as_long_as_it_is_wide_does_not_hide_a_layout_with_time_first():
    torch.manual_seed(1)
    model = Unusual("time_first")
    parameters = dict(model.named_parameters())
    batches = token_batches(lengths=(5,) * 5, width=5, size=5)
    result = squared_gradients(model, parameters, batches, log_likelihood)
    assert_same_sums(result.sums, squares(example_gradients(model, parameters, batches)))


def test_sampled_labels_are_drawn_once_for_fast_and_slow_parameters():
    torch.manual_seed(1)
    model = Unusual("raw")
    parameters = dict(model.named_parameters())
    batches = token_batches()
    drawn = []

    def sampled(batch, output):
        labels = torch.multinomial(output.logits.softmax(-1), 1, generator=generator)[:, 0]
        drawn.append(labels)
        return output.logits.log_softmax(-1).gather(1, labels[:, None])[:, 0]

    generator = torch.Generator().manual_seed(0)
    result = squared_gradients(model, parameters, batches, sampled)
    assert [len(labels) for labels in drawn] == [2, 6]
    relabeled = [make_batch(batches[0].inputs, drawn[1])]
    assert_same_sums(result.sums, squares(example_gradients(model, parameters, relabeled)))


def test_an_objective_of_the_features_alone_is_measured():
    torch.manual_seed(0)
    model = Encoder()
    parameters = {n: p for n, p in model.named_parameters() if "layer.1" in n}

    def norm(batch, output):
        return output.features.square().sum(-1)

    result = squared_gradients(model, parameters, token_batches(), norm)
    each = example_gradients(model, parameters, token_batches(), norm)
    assert_same_sums(result.sums, squares(each))


def test_bf16_autocast_gives_the_same_importances_to_its_precision():
    torch.manual_seed(0)
    model = Encoder()
    parameters = dict(model.named_parameters())
    full = squared_gradients(model, parameters, token_batches(), log_likelihood)
    half = squared_gradients(
        model,
        parameters,
        token_batches(),
        log_likelihood,
        autocast=lambda: torch.autocast("cpu", torch.bfloat16),
    )
    for name, value in full.sums.items():
        assert half.sums[name].dtype == torch.float32
        if "key.bias" not in name:  # zero but for rounding
            assert (half.sums[name] - value).norm() <= 0.05 * value.norm(), name


def test_no_batches_give_zeros_and_no_examples():
    model = Pair(1.0, 0.0)
    result = squared_gradients(model, dict(model.named_parameters()), [], log_likelihood)
    assert result.num_examples == 0
    assert all(not value.any() for value in result.sums.values())
