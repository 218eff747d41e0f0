"""Every method at strength 0 is plain fine-tuning, bit for bit."""

import itertools

import pytest
import torch

from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from tests.conformance.streams import GENERAL_TEXT, name_of, plan_of, problems_of, taught

ZEROS = [
    {"type": "ewc", "strength": 0.0},
    {"type": "lwf", "strength": 0.0},
    {"type": "replay", "capacity": 0},
    {"type": "replay", "fraction": 0.0, "selection": "reservoir"},
    {"type": "replay", "fraction": 0.0, "selection": "herding"},
    {"type": "si", "strength": 0.0},
    {"type": "mas", "strength": 0.0},
    {"type": "l2_sp", "strength": 0.0},
    {"type": "der", "capacity": 0},
    {"type": "der", "alpha": 0.0, "beta": 0.0},
    {"type": "agem", "capacity": 0},
    {"type": "generative", "ratio": 0.0},
    {"type": "mixed_data", "sources": [GENERAL_TEXT], "share": 0.0},
]
BASES = [[], [{"type": "lora", "rank": 2}], [{"type": "freeze", "num_blocks": 1}]]
STACKS = [
    (base, zeros)
    for base in BASES
    for size in (1, 2)
    for zeros in itertools.permutations(ZEROS, size)
    if not problems_of([*base, *zeros]) and (size == 1 or not base)
]


def weights(model, folder, stack):
    return taught(plan_of(model, folder, stack)).model.state_dict()


@pytest.fixture(scope="module")
def plain(tiny_model, tmp_path_factory):
    """The weights of each base without any method against forgetting."""
    folder = tmp_path_factory.mktemp("plain")
    return {name_of(base): weights(tiny_model, folder / name_of(base), base) for base in BASES}


@pytest.mark.parametrize(("base", "zeros"), STACKS, ids=lambda stack: name_of(stack))
def test_strength_zero_is_plain_fine_tuning(tiny_model, tmp_path, plain, base, zeros):
    found = weights(tiny_model, tmp_path, [*base, *zeros])
    wanted = plain[name_of(base)]
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []


@pytest.mark.parametrize(
    "stack",
    [
        [{"type": "ewc"}],
        [{"type": "lwf"}],
        [{"type": "replay", "capacity": 10}],
        [{"type": "si", "strength": 50.0}],
        [{"type": "mas"}],
        [{"type": "l2_sp"}],
        [{"type": "l2_sp", "towards": "last"}],
        [{"type": "der", "capacity": 10}],
        [{"type": "der", "capacity": 10, "beta": 0.0}],
        [{"type": "agem", "capacity": 10}],
        [{"type": "generative"}],
    ],
    ids=name_of,
)
def test_a_positive_strength_changes_the_weights(tiny_model, tmp_path, plain, stack):
    found = weights(tiny_model, tmp_path, stack)
    assert any(not torch.equal(plain["finetune"][name], found[name]) for name in found)


def test_every_method_that_adds_a_term_has_a_zero_here():
    structural = {kind for kind, config in METHOD_CONFIGS.items() if config.owns_structure}
    assert {zero["type"] for zero in ZEROS} == METHOD_CONFIGS.keys() - structural
