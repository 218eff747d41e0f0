"""Covers, beside `task_columns`: `column`."""

import copy
import math
from itertools import pairwise

import pytest
import torch
from torch.nn import functional
from transformers import FunnelConfig, FunnelModel, T5Config, T5Model

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.models.causal_lm import load_causal_lm
from ratchet.pipelines.models.classifier import Classifier, load_classifier
from ratchet.pipelines.models.column import Column, ColumnSize
from ratchet.pipelines.models.pooling import pool
from ratchet.pipelines.models.task_columns import TaskColumns

INPUTS = {"input_ids": torch.tensor([[2, 6, 7, 9, 3]]), "attention_mask": torch.ones(1, 5).long()}


def with_columns(model, num_tasks=2, share=0.5, lateral_width=None):
    """A model in eval mode with columns whose every parameter has a value."""
    model.keep_base()
    columns = model.parts["columns"] = TaskColumns.beside(model, share, lateral_width)
    for task_id in range(num_tasks):
        torch.manual_seed(task_id)
        columns.add(task_id)
    model.eval()
    return model, columns


def fill(module, scale=0.2):
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(scale * torch.randn(parameter.shape, generator=numbers))


@torch.no_grad()
def features(model, inputs=INPUTS, **changes):
    return model.features({**inputs, **changes}).clone()


def by_hand(column, base, others):
    """A column's levels and answer for one row without padding, from its parameters alone."""
    p = dict(column.named_parameters())

    def linear(name, x):
        return x @ p[f"{name}.weight"].T + p.get(f"{name}.bias", 0)

    def norm(x, name=None):
        x = (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, False, keepdim=True) + 1e-5)
        return x if name is None else x * p[f"{name}.weight"] + p[f"{name}.bias"]

    def block(name, x):
        query, key, value = linear(f"{name}.attention_in", norm(x, f"{name}.attention_norm")).chunk(
            3, dim=-1
        )
        scores = query @ key.T / math.sqrt(query.shape[-1])
        x = x + linear(f"{name}.attention_out", scores.softmax(-1) @ value)
        inner = functional.gelu(linear(f"{name}.inner_in", norm(x, f"{name}.inner_norm")))
        return x + linear(f"{name}.inner_out", inner)

    def lateral(name, x):
        scaled = p[f"{name}.scale"] * norm(x)
        return linear(f"{name}.up", functional.gelu(linear(f"{name}.down", scaled)))

    hidden, levels = linear("entry", norm(base[0])), []
    for level in range(2):
        levels.append(block(f"blocks.{level}", hidden))
        at = f"junctions.{level}"
        hidden = levels[-1] + p[f"{at}.shift"] + lateral(f"{at}.laterals.base", base[level + 1])
        for name, states in others.items():
            hidden = hidden + lateral(f"{at}.laterals.{name}", states[level])
    answer = linear("exit", norm(hidden, "norm")) + p["answers.shift"]
    for name, states in others.items():
        answer = answer + p[f"answers.laterals.{name}.scale"] * states[-1]
    return [*levels, answer]


def test_a_column_reads_base_and_earlier_columns_as_worked_out_by_hand(tiny_model):
    model, columns = with_columns(load_classifier(str(tiny_model)))
    fill(columns)
    with torch.no_grad():
        base = [state[0] for state in model.base_states(INPUTS)]
        first = by_hand(columns.column(0), base, {})
        second = by_hand(columns.column(1), base, {"from_000": first})
    assert columns.size == ColumnSize(32, 16, 1, 32, 16, 2, 0.1)
    for task_id, states in enumerate([first, second]):
        columns.task_id = task_id
        wanted = pool((base[-1] + states[-1])[None], INPUTS["attention_mask"], "mean")
        torch.testing.assert_close(features(model), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["classifier", "causal_lm"])
def test_the_first_column_starts_as_the_base_model(tiny_model, tiny_decoder, kind):
    def loaded():
        if kind == "classifier":
            return load_classifier(str(tiny_model))
        return load_causal_lm(str(tiny_decoder))

    model, columns = with_columns(loaded())
    plain = loaded().eval()
    columns.task_id = 0
    assert torch.equal(features(model), features(plain))
    fill(columns)
    assert not torch.allclose(features(model), features(plain))


def test_a_new_column_starts_with_the_mean_of_what_earlier_tasks_made_of_the_base(tiny_model):
    model, columns = with_columns(load_classifier(str(tiny_model)), 3)
    for task_id in range(2):
        fill(columns.column(task_id), scale=0.1 * (task_id + 1))
    found = []
    for task_id in range(3):
        columns.task_id = task_id
        found.append(features(model))
    assert not torch.allclose(found[0], found[1])
    torch.testing.assert_close(found[2], (found[0] + found[1]) / 2)


SIZE = ColumnSize(32, 16, 1, 32, 16, 2, 0.1)


def column_beside(*earlier):
    torch.manual_seed(3)
    return Column(SIZE, earlier).eval()


def levels_of(column, sources):
    allowed = torch.ones(1, 1, 5, 5, dtype=torch.bool)
    return column.levels(sources["base"][0], sources, allowed)


def states(*names):
    torch.manual_seed(5)
    widths = {name: [32, 32] if name == "base" else [16, 16, 32] for name in names}
    return {name: [torch.randn(1, 5, width) for width in each] for name, each in widths.items()}


def test_before_its_first_step_a_column_beside_others_adds_their_mean_to_the_same_column_alone():
    alone, beside = column_beside(), column_beside("from_000", "from_001")
    for column in (alone, beside):
        fill(column.exit)
    sources = states("base", "from_000", "from_001")
    *one, answer = levels_of(alone, {"base": sources["base"]})
    *two, shared = levels_of(beside, sources)
    torch.testing.assert_close(one, two, rtol=0, atol=0)
    mean = (sources["from_000"][-1] + sources["from_001"][-1]) / 2
    torch.testing.assert_close(shared, answer + mean)
    assert dict(alone.named_parameters()).keys() < dict(beside.named_parameters()).keys()


def test_every_number_of_a_lateral_that_starts_at_zero_learns():
    column, sources = column_beside("from_000"), states("base", "from_000")
    start = {name: parameter.detach().clone() for name, parameter in column.named_parameters()}
    optimizer = torch.optim.AdamW(column.parameters(), lr=1e-3, weight_decay=0)
    for _ in range(3):  # the exit learns in the first step, `up` in the second, then `down`
        optimizer.zero_grad()
        (levels_of(column, sources)[-1] - 1).square().mean().backward()
        optimizer.step()
    laterals = {name: p for name, p in column.named_parameters() if ".from_000." in name}
    assert len(laterals) == 2 * 4 + 1
    for name, parameter in laterals.items():
        assert not torch.equal(parameter, start[name]), name


def test_padding_changes_no_answer(tiny_model):
    model, columns = with_columns(load_classifier(str(tiny_model)))
    fill(columns)
    columns.task_id = 1
    padded = {name: functional.pad(t, (0, 3)) for name, t in INPUTS.items()}
    padded["input_ids"][:, 5:] = 11
    torch.testing.assert_close(features(model), features(model, padded), rtol=1e-4, atol=1e-5)


def test_in_a_language_model_no_token_sees_those_after_it(tiny_decoder):
    model, columns = with_columns(load_causal_lm(str(tiny_decoder)))
    fill(columns)
    columns.task_id = 1
    inputs = INPUTS | {"completion_mask": INPUTS["attention_mask"]}
    other = inputs | {"input_ids": torch.tensor([[2, 6, 7, 4, 8]])}
    with torch.no_grad():
        one, two = model(inputs).logits, model(other).logits
        columns.silent = True
        base = model(inputs).logits
    torch.testing.assert_close(one[:, :3], two[:, :3])
    assert not torch.allclose(one[:, 3:], two[:, 3:])
    assert not torch.allclose(one, base)


def test_a_language_model_generates_with_its_column_and_refuses_a_cache(tiny_decoder):
    model, columns = with_columns(load_causal_lm(str(tiny_decoder)))
    prompts = [torch.tensor([0, 40, 41]), torch.tensor([0, 50])]
    plain = [list(found) for found in model.generate(prompts, 6)]
    fill(columns)
    columns.task_id = 0
    found = [list(tokens) for tokens in model.generate(prompts, 6)]
    alone = [list(model.generate([prompt], 6)[0]) for prompt in prompts]
    assert found == alone  # left padding is not looked at
    assert found != plain
    model.uses_cache = True
    with pytest.raises(MethodError, match="use_cache=False"):
        model.generate(prompts, 6)


def test_what_comes_later_leaves_an_earlier_column_alone(tiny_model):
    model, columns = with_columns(load_classifier(str(tiny_model)), 1)
    fill(columns)
    columns.task_id = 0
    before = features(model)
    columns.add(1)
    fill(columns.column(1))
    assert torch.equal(before, features(model))


def test_base_features_do_not_see_the_columns(tiny_model):
    model, columns = with_columns(load_classifier(str(tiny_model)))
    plain = load_classifier(str(tiny_model)).eval()
    fill(columns)
    columns.task_id = 1
    assert torch.equal(model.base_features(INPUTS), plain.base_features(INPUTS))


def test_a_deep_copy_has_columns_of_its_own(tiny_model):
    model, columns = with_columns(load_classifier(str(tiny_model)))
    fill(columns)
    columns.task_id = 1
    before, twin = features(model), copy.deepcopy(model)
    fill(twin.parts["columns"], scale=0.3)
    assert torch.equal(before, features(model))
    assert not torch.allclose(before, features(twin))
    columns.silent = True
    assert not torch.allclose(features(model), features(twin))


def test_only_open_columns_train_and_have_dropout(tiny_model):
    model, columns = with_columns(load_classifier(str(tiny_model)), 3)
    columns.open([2])
    model.train()
    assert {name.split(".")[2] for name in model.trainable()} == {"task_002"}
    assert [columns.column(t).training for t in range(3)] == [False, False, True]
    model.eval()
    assert not columns.column(2).training


def test_only_columns_that_are_read_run_and_a_pruned_one_leaves_its_mean(tiny_model):
    model, columns = with_columns(load_classifier(str(tiny_model)), 3)
    fill(columns)
    assert columns.read_by(2) == [0, 1]
    last = columns.column(2)
    means = {place: torch.linspace(-1, 1, len(j.shift)) for place, j in last.places.items()}
    shifts = {place: j.shift.detach().clone() for place, j in last.places.items()}
    assert list(means) == ["junctions.0", "junctions.1", "answers"]
    for place, mean in means.items():
        assert columns.read_by(2) == [0, 1]
        last.prune(place, "from_001", mean)
    assert columns.read_by(2) == [0]
    for place, junction in last.places.items():
        torch.testing.assert_close(junction.shift.detach(), shifts[place] + means[place])
    for place, mean in means.items():
        columns.column(1).prune(place, "from_000", mean)
        last.prune(place, "from_000", mean)
    assert columns.read_by(1) == columns.read_by(2) == []
    columns.task_id = 2
    model.parts["columns"].get_submodule("task_000").forward = None  # would fail if it ran
    assert features(model).isfinite().all()


def parameters_per_task(columns):
    return [found.total for found in columns.parameter_counts().values()]


def test_parameters_grow_linearly_from_task_to_task_and_not_at_all_where_pruned(tiny_model):
    _, columns = with_columns(load_classifier(str(tiny_model)), 6)
    counts = columns.parameter_counts()
    lateral = 2 * (1 + 16 * 16 + 16 + 16 * 16) + 1  # two levels of scale, down, up; a share
    assert counts[3].laterals == {
        "base": 2 * (1 + 32 * 16 + 16 + 16 * 16),
        **{f"from_00{earlier}": lateral for earlier in range(3)},
    }
    sizes = parameters_per_task(columns)
    assert [later - earlier for earlier, later in pairwise(sizes)] == [lateral] * 5
    for task_id in range(6):
        for earlier in range(1, task_id):
            for place, junction in columns.column(task_id).places.items():
                nothing = torch.zeros_like(junction.shift)
                columns.column(task_id).prune(place, f"from_00{earlier}", nothing)
    assert set(parameters_per_task(columns)[1:]) == {sizes[1]}


def model_of(backbone, tiny_model):
    tokenizer = load_classifier(str(tiny_model)).tokenizer
    return Classifier(backbone.eval(), tokenizer, "other", str(tiny_model))


def test_an_encoder_with_a_decoder_is_refused_before_training(tiny_model):
    config = T5Config(vocab_size=50, d_model=16, d_kv=8, d_ff=16, num_layers=2, num_heads=2)
    with pytest.raises(MethodError, match=r"T5Model cannot take columns.*encoder and a decoder"):
        TaskColumns.beside(model_of(T5Model(config), tiny_model), 0.5, None)


def test_an_encoder_that_shortens_the_text_is_refused_before_training(tiny_model):
    config = FunnelConfig(
        vocab_size=50, d_model=16, n_head=2, d_head=8, d_inner=16, block_sizes=[1, 1]
    )
    model = model_of(FunnelModel(config), tiny_model)
    with pytest.raises(MethodError, match="FunnelModel cannot take columns, for 8 tokens"):
        TaskColumns.beside(model, 0.5, None)
