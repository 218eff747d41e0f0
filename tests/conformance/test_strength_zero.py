"""Every method at strength 0 is plain fine-tuning, bit for bit."""

import itertools

import pytest
import torch

from tests.conformance.claims import claiming, row_of, zeros
from tests.conformance.streams import name_of, plan_of, problems_of, taught

ZEROS = [
    *zeros(),
    {"type": "replay", "fraction": 0.0, "selection": "herding"},
    {"type": "der", "alpha": 0.0, "beta": 0.0},
]
"""Every method at the 0 that its config claims to be off at, and some more."""

VIVID = [
    [row_of(kind)] for kind in claiming(lambda c: "classifier" in c.kinds and not c.owns_structure)
]
VARIANTS = [
    [{"type": "l2_sp", "towards": "last", "strength": 1.0}],
    [{"type": "der", "capacity": 10, "beta": 0.0}],
]
BASES = [[], [{"type": "lora", "rank": 2}], [{"type": "freeze", "num_blocks": 1}]]
STACKS = [
    (base, off)
    for base in BASES
    for size in (1, 2)
    for off in itertools.permutations(ZEROS, size)
    if not problems_of([*base, *off]) and (size == 1 or not base)
]


def weights(model, folder, stack):
    return taught(plan_of(model, folder, stack)).model.state_dict()


@pytest.fixture(scope="module")
def plain(tiny_model, tmp_path_factory):
    """The weights of each base without any method against forgetting."""
    folder = tmp_path_factory.mktemp("plain")
    return {name_of(base): weights(tiny_model, folder / name_of(base), base) for base in BASES}


@pytest.mark.parametrize(("base", "off"), STACKS, ids=lambda stack: name_of(stack))
def test_strength_zero_is_plain_fine_tuning(tiny_model, tmp_path, plain, base, off):
    found = weights(tiny_model, tmp_path, [*base, *off])
    wanted = plain[name_of(base)]
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []


@pytest.mark.parametrize("stack", [*VIVID, *VARIANTS], ids=name_of)
def test_a_positive_strength_changes_the_weights(tiny_model, tmp_path, plain, stack):
    found = weights(tiny_model, tmp_path, stack)
    assert any(not torch.equal(plain["finetune"][name], found[name]) for name in found)
