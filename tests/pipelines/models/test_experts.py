import copy

import pytest
import torch

from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.models.experts import ExpertBlocks, Mixture, imbalance, top_gates
from ratchet.pipelines.models.sublayers import sublayers_of

INPUTS = {
    "input_ids": torch.tensor([[2, 6, 7, 3], [2, 8, 3, 0]]),
    "attention_mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]]),
}


@pytest.fixture
def grown(tiny_model):
    """A tiny model in eval mode with two tasks' experts, whose every parameter has a value."""
    model = load_classifier(str(tiny_model)).eval()
    blocks = sublayers_of(model.backbone, "experts")
    experts = ExpertBlocks(model.backbone, blocks, model.dim, top_k=2).eval()
    model.parts["experts"] = experts
    for task_id in range(2):
        experts.grow(task_id, 1 + task_id, 4)
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in experts.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=numbers) * 0.3)
    return model, experts


@pytest.mark.parametrize(
    ("logits", "top_k", "wanted"),
    [
        ([2.0, 1.0, 0.0], 2, [0.7310586, 0.2689414, 0.0]),
        ([0.0, 1.0, 2.0], 2, [0.0, 0.2689414, 0.7310586]),
        ([5.0, 1.0, 0.0], 1, [1.0, 0.0, 0.0]),
        ([1.0, 0.0], 5, [0.7310586, 0.2689414]),
        ([1.0, 3.0, 1.0, 1.0], 2, [0.1192029, 0.8807971, 0.0, 0.0]),  # the oldest of the tied
        ([7.0], 2, [1.0]),
    ],
)
def test_the_gate_is_a_softmax_over_the_largest_logits(logits, top_k, wanted):
    torch.testing.assert_close(top_gates(torch.tensor([logits]), top_k), torch.tensor([wanted]))


def test_ties_go_to_the_oldest_expert_however_many_there_are():
    gates = top_gates(torch.zeros(100, 64), 3)
    assert torch.equal(gates[:, :3], torch.full((100, 3), 1 / 3))
    assert not gates[:, 3:].any()


@pytest.mark.parametrize(
    ("importance", "wanted"), [([2.0, 2.0], 0.0), ([1.0, 3.0], 0.25), ([4.0, 0.0], 1.0), ([3.0], 0)]
)
def test_imbalance_is_the_squared_coefficient_of_variation(importance, wanted):
    assert imbalance(torch.tensor(importance)).item() == pytest.approx(wanted)


def test_a_mixture_adds_its_chosen_experts_by_their_gates():
    mixture = Mixture(top_k=2)
    for task_id in range(3):
        experts = ExpertBlocks(torch.nn.Identity(), [], 2, 2)
        experts.mixtures.append(mixture)
        experts.grow(task_id, 1, 1)
    gates = [[1.0, 0.0], [0.0, 1.0], [-5.0, -5.0]]
    with torch.no_grad():
        for row, group in zip(gates, mixture.groups.values(), strict=True):
            group.gate.weight.copy_(torch.tensor([row]))
            group.experts[0].down.weight.copy_(torch.tensor([[1.0, 1.0]]))
            group.experts[0].down.bias.zero_()
        for index, group in enumerate(mixture.groups.values()):
            group.experts[0].up.weight.copy_(torch.eye(2)[:, min(index, 1) : min(index, 1) + 1])
        added, found = mixture(torch.tensor([[[2.0, 1.0]]]))
    # Logits 2, 1, -15: gates .7311, .2689, 0. Each expert's hidden unit is relu(3) = 3; the first
    # writes it to the first place, the second to the second.
    torch.testing.assert_close(found, torch.tensor([[[0.7310586, 0.2689414, 0.0]]]))
    torch.testing.assert_close(added, torch.tensor([[[3 * 0.7310586, 3 * 0.2689414]]]))


def test_a_token_is_computed_by_its_chosen_experts_alone(grown):
    _, experts = grown
    mixture = experts.mixtures[0]
    counts = []
    for group in mixture.groups.values():
        for expert in group.experts:
            expert.register_forward_hook(lambda _m, args, _o: counts.append(len(args[0])))
    _, gates = mixture(torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(1)))
    assert sum(counts) == 3 * 5 * 2
    assert counts == [int((gates[..., place] > 0).sum()) for place in range(3)]


def test_the_first_experts_start_as_the_base_and_stay_out_of_the_base_features(tiny_model, grown):
    plain = load_classifier(str(tiny_model)).eval()
    fresh = load_classifier(str(tiny_model)).eval()
    blocks = sublayers_of(fresh.backbone, "experts")
    fresh.parts["experts"] = ExpertBlocks(fresh.backbone, blocks, 32, top_k=2).eval()
    fresh.parts["experts"].grow(0, 2, 4)
    model, _ = grown
    model.keep_base()
    with torch.no_grad():
        wanted = plain.features(INPUTS)
        torch.testing.assert_close(fresh.features(INPUTS), wanted)
        assert not torch.allclose(model.features(INPUTS), wanted)
        assert torch.equal(model.base_features(INPUTS), plain.base_features(INPUTS))


def test_the_balance_counts_real_tokens_of_training_passes_only(grown):
    model, experts = grown
    model.features(INPUTS)
    assert experts.take_imbalance() is None
    model.train()
    with torch.no_grad():
        model.features(INPUTS)
    assert experts.take_imbalance() is None
    model.features(INPUTS)
    sums = [importance.sum().item() for importance in experts._importance.values()]
    assert sums == pytest.approx([7.0, 7.0])  # seven real tokens, gates of each sum to one
    wanted = sum(imbalance(found) for found in experts._importance.values()) / 2
    assert experts.take_imbalance().item() == pytest.approx(wanted.item())
    assert experts.take_imbalance() is None


def test_a_deep_copy_has_experts_of_its_own(grown):
    model, experts = grown
    twin = copy.deepcopy(model)
    with torch.no_grad():
        before = model.features(INPUTS)
        for parameter in twin.parts["experts"].parameters():
            parameter.mul_(2)
        assert torch.equal(model.features(INPUTS), before)
        assert not torch.allclose(twin.features(INPUTS), before)
        experts.silent = True
        assert not torch.allclose(twin.features(INPUTS), model.features(INPUTS))


def test_only_the_experts_that_are_open_train(grown):
    _, experts = grown
    experts.open([1])
    training = {name for name, p in experts.named_parameters() if p.requires_grad}
    assert training
    assert all(".grown_001." in name for name in training)
    assert any(name.endswith("gate.weight") for name in training)
