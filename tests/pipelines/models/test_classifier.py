"""Covers, beside `classifier`: `taught_model`."""

import pytest
import torch

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.models.heads import Heads
from ratchet.pipelines.types import Task

INPUTS = {
    "input_ids": torch.tensor([[2, 6, 7, 3], [2, 8, 3, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
}


@pytest.fixture
def model(tiny_model):
    found = load_classifier(str(tiny_model))
    found.heads = Heads(found.dim, "growing")
    found.head.add(Task(0, "a", (0, 1)))
    return found


def test_features_that_are_known_are_not_computed_again(model):
    model.eval()
    with torch.no_grad():
        features = model.features(INPUTS)
        assert torch.equal(model(INPUTS, features=features).logits, model(INPUTS).logits)
        model.backbone.register_forward_hook(lambda *_: pytest.fail("the backbone ran"))
        model(INPUTS, features=features)


def test_padding_changes_nothing(model):
    model.eval()
    alone = {"input_ids": INPUTS["input_ids"][1:, :3], "attention_mask": torch.ones(1, 3).long()}
    with torch.no_grad():
        torch.testing.assert_close(model.features(alone), model.features(INPUTS)[1:])


def test_base_features_stay_when_the_backbone_is_trained(model):
    before = model.base_features(INPUTS)
    with torch.no_grad():
        for parameter in model.backbone.parameters():
            parameter.add_(0.1)
    model.train()
    assert torch.equal(model.base_features(INPUTS), before)
    assert model.training
    assert before.shape == (2, model.base_width)


def test_the_base_that_is_kept_aside_is_no_part_of_the_model(model):
    names = set(model.state_dict())
    model.base_features(INPUTS)
    assert set(model.state_dict()) == names
    assert len(list(model.parameters())) == len(names)


@pytest.mark.parametrize(("kept", "prefixes"), [(False, {"backbone", "heads"}), (True, {"heads"})])
def test_learned_state_is_what_differs_from_the_base(model, kept, prefixes):
    if kept:
        model.keep_base()
    assert {name.split(".")[0] for name in model.learned_state()} == prefixes


def test_learned_state_goes_back_in_place(model, tiny_model):
    other = load_classifier(str(tiny_model))
    other.heads = Heads(other.dim, "growing")
    other.head.add(Task(0, "a", (0, 1)))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    places = {name: tensor.data_ptr() for name, tensor in other.state_dict().items()}
    other.load_learned_state(model.learned_state())
    assert all(torch.equal(t, other.state_dict()[n]) for n, t in model.state_dict().items())
    assert places == {name: tensor.data_ptr() for name, tensor in other.state_dict().items()}


@pytest.mark.parametrize("change", ["missing", "unknown", "shape"])
def test_state_that_does_not_fit_is_refused(model, change):
    state = dict(model.learned_state())
    name = "heads.blocks.task_000.bias"
    if change == "missing":
        del state[name]
    elif change == "unknown":
        state["heads.blocks.task_009.bias"] = torch.zeros(2)
    else:
        state[name] = torch.zeros(3)
    with pytest.raises(ModelError, match=r"heads\.blocks\.task_00"):
        model.load_learned_state(state)


def test_the_fingerprint_follows_what_shapes_the_features_and_nothing_else(model):
    before = model.fingerprint()
    with torch.no_grad():
        model.heads.blocks["task_000"].weight.add_(1.0)
        assert model.fingerprint() == before
        model.backbone.embeddings.word_embeddings.weight[5, 3] += 1e-6
    assert model.fingerprint() != before


def test_a_parameter_that_is_one_number_has_a_fingerprint_too(model):
    model.backbone.register_parameter("scale", torch.nn.Parameter(torch.tensor(1.0)))
    before = model.fingerprint()
    with torch.no_grad():
        model.backbone.scale.add_(1.0)
    assert model.fingerprint() != before


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match=r"model\.name: .* cannot be loaded"):
        load_classifier(str(tmp_path))
