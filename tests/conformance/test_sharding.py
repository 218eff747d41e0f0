"""Covers `pipelines.methods.importance.sharded`, `pipelines.models.shards`,
`pipelines.training.sharded_state`, `pipelines.training.sharding`.

Parameters sharded over two workers: the same weights as one worker, and less memory each.
"""

import pytest
import torch

from ratchet.pipelines.models.shards import own_part, wholes
from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.training.checkpoint import FolderCheckpoints
from ratchet.pipelines.training.sharded_state import whole_states
from tests.conformance.claims import claiming, row_of
from tests.conformance.groups import in_group
from tests.conformance.streams import Interruption, name_of, plan_of, taught, teacher_of
from tests.conformance.test_language_models import language_plan

SHARDED = {"num_workers": 2, "sharding": "fsdp"}
EWC = {"type": "ewc", "strength": 10.0, "labels": "observed"}
STACKS = [
    [],
    [{"type": "lora", "rank": 2}],
    [{"type": "lora", "rank": 2, "per_task": True}],
    [EWC],
    [{**EWC, "per_task": True}],
    [{"type": "freeze", "num_blocks": 1}, EWC],
]


def still(kind):
    """A method's row without dropout, which a worker that takes part without rows draws too."""
    fields = METHOD_CONFIGS[kind].model_fields
    return row_of(kind, **({"dropout": 0.0} if "dropout" in fields else {}))


CLAIMED = claiming(lambda config: config.shards and "classifier" in config.kinds)
DRAWN = [
    [],
    *([still(kind)] for kind in CLAIMED),
    [{"type": "lora", "rank": 2}, {"type": "ewc"}],
    [{"type": "replay", "capacity": 10}, {"type": "ewc"}],
    [{"type": "ewc", "decay": 0.5, "max_examples": 9}],
    [{"type": "freeze", "num_blocks": 0}, {"type": "replay", "capacity": 5}],
    [{"type": "freeze", "warmup_epochs": 1}, {"type": "replay", "capacity": 4}],
    [{"type": "replay", "capacity": 11, "selection": "herding"}],
]
"""Stacks whose workers draw numbers of their own, so that one worker is no measure for two."""

NOISE = ".key.bias"
"""Its gradient is zero in exact arithmetic: what AdamW makes of it is rounding."""


class GroupCheckpoints(FolderCheckpoints):
    """One folder for all workers of a group, as a shared storage is; ends after `number` saves."""

    def __init__(self, folder, workers, number=-1):
        super().__init__(folder, workers)
        self.left = number

    def save(self, name, write):
        super().save(name, write)
        self.left -= 1
        if self.left == 0:
            raise Interruption(name)


def known(teacher):
    """What a teacher has learned and measured, whole."""
    found = {f"model/{n}": t for n, t in wholes(teacher.model.learned_state(), keep=True).items()}
    states = teacher.stack.state_dicts()
    if teacher.workers.rank:  # as where a set's order is each process's own
        for state in states.values():
            state.tensors = dict(reversed(state.tensors.items()))
    sharded = whole_states(teacher.model, teacher.stack, states, keep=True)
    for kind, state in states.items():
        tensors = state.tensors | sharded.get(kind, {})
        found |= {f"{kind}/{name}": tensor for name, tensor in tensors.items()}
    found |= {f"router/{name}": t for name, t in teacher.router.state_dict().items()}
    return found | {"scores": teacher.scores}


def learned(workers, plan):
    return known(taught(plan, workers=workers))


def alone(plan):
    return known(taught(plan))


def far_apart(one, other, tolerance):
    assert one.keys() == other.keys(), sorted(one.keys() ^ other.keys())
    return {
        name: float((one[name] - other[name]).abs().max())
        for name in one
        if isinstance(one[name], torch.Tensor)
        and not name.endswith(NOISE)
        and not torch.allclose(one[name], other[name], rtol=0, atol=tolerance)
    }


@pytest.mark.parametrize("stack", STACKS, ids=name_of)
def test_two_workers_with_a_part_each_learn_what_one_learns(still_model, tmp_path, stack):
    wanted = alone(plan_of(still_model, tmp_path / "alone", stack))
    plan = plan_of(still_model, tmp_path / "pair", stack, scaling=SHARDED)
    one, two = in_group(2, tmp_path / "found", learned, plan)
    assert far_apart(one, two, 0.0) == {}
    assert far_apart(wanted, one, 1e-4) == {}
    assert wanted["scores"] == one["scores"]


@pytest.mark.parametrize("stack", DRAWN, ids=name_of)
def test_a_part_each_learns_what_the_whole_on_each_learns(still_model, tmp_path, stack):
    # 24 rows in steps of 23: the last step of an epoch leaves a worker without rows.
    training = {"batch_size": 23, "gradient_accumulation_steps": 2}
    whole = plan_of(still_model, tmp_path / "whole", stack, training=training)
    wanted = in_group(2, tmp_path / "wanted", learned, whole)
    plan = plan_of(still_model, tmp_path / "parts", stack, scaling=SHARDED, training=training)
    found = in_group(2, tmp_path / "found", learned, plan)
    for one, other in zip(wanted, found, strict=True):
        assert far_apart(one, other, 1e-4) == {}
        assert one["scores"] == other["scores"]


def test_activations_computed_again_change_nothing(still_model, tmp_path):
    wanted = alone(plan_of(still_model, tmp_path / "alone", []))
    training = {"gradient_checkpointing": True}
    once = alone(plan_of(still_model, tmp_path / "again", [], training=training))
    assert far_apart(wanted, once, 1e-6) == {}
    plan = plan_of(still_model, tmp_path / "pair", [], scaling=SHARDED, training=training)
    one, _ = in_group(2, tmp_path / "found", learned, plan)
    assert far_apart(wanted, one, 1e-4) == {}


def test_parts_gathered_in_bf16_learn_what_whole_ones_learn_in_it(still_model, tmp_path):
    training = {"precision": "bf16", "learning_rate": 1e-4}
    whole = plan_of(still_model, tmp_path / "whole", [EWC], training=training)
    wanted = in_group(2, tmp_path / "wanted", learned, whole)
    plan = plan_of(still_model, tmp_path / "parts", [EWC], scaling=SHARDED, training=training)
    one, two = in_group(2, tmp_path / "found", learned, plan)
    assert far_apart(one, two, 0.0) == {}
    for name, tensor in wanted[0].items():
        if name.startswith("ewc/importance"):
            apart = float((one[name] - tensor).norm())
            assert apart <= 0.1 * float(tensor.norm()) + 1e-6, name


def parts_of(workers, plan):
    teacher = teacher_of(plan, workers=workers)
    teacher._start_lineage(None)
    teacher._expand(plan.job.stages[0])
    teacher.model._base()
    frozen = {f"base/{n}": p for n, p in teacher.model._frozen_base[0].named_parameters()}
    named = dict(teacher.model.named_parameters()) | frozen
    return {name: (tuple(p.shape), own_part(p).numel()) for name, p in named.items()}


def test_each_worker_holds_its_part_of_the_backbone_and_of_its_frozen_copy(still_model, tmp_path):
    plan = plan_of(still_model, tmp_path, [], scaling={"num_workers": 3, "sharding": "fsdp"})
    found = in_group(3, tmp_path / "found", parts_of, plan)
    for name, (shape, _) in found[0].items():
        held = [parts[name][1] for parts in found]
        size = torch.Size(shape).numel()
        if name.startswith("heads."):
            assert held == [size] * 3
        else:
            assert sum(held) == size
            assert max(held) <= -(-shape[0] // 3) * size // shape[0]


def cut_off_and_resumed(workers, plan, number):
    folder = plan.job.folder / "checkpoints"
    if number:
        with pytest.raises(Interruption):
            taught(plan, workers=workers, store=GroupCheckpoints(folder, workers, number))
    return known(taught(plan, workers=workers, store=GroupCheckpoints(folder, workers)))


@pytest.mark.parametrize("stack", STACKS, ids=name_of)
def test_going_on_from_a_checkpoint_inside_a_task_ends_the_same(tiny_model, tmp_path, stack):
    training = {"checkpoint_every_steps": 1}
    sections = {"scaling": SHARDED, "training": training}
    whole = plan_of(tiny_model, tmp_path / "whole", stack, **sections)
    wanted = in_group(2, tmp_path / "wanted", cut_off_and_resumed, whole, 0)
    plan = plan_of(tiny_model, tmp_path / "again", stack, **sections)
    found = in_group(2, tmp_path / "found", cut_off_and_resumed, plan, 5)
    for one, other in zip(wanted, found, strict=True):
        assert far_apart(one, other, 0.0) == {}


# AdamW divides by the root of a moment: where a gradient is almost nothing, the order in which it
# was summed decides. Processors differ; weights move by about 2e-2 in these runs.
ALIKE = 5e-4
ON_LANGUAGE = claiming(lambda config: config.shards and "causal_lm" in config.kinds)
LANGUAGE = [
    [],
    [{"type": "lora", "rank": 2}, EWC],
    [{"type": "lora", "rank": 2, "per_task": True}],
]


@pytest.mark.parametrize("stack", LANGUAGE, ids=name_of)
def test_a_language_model_learns_the_same_from_its_parts(tiny_decoder, tmp_path, stack):
    wanted = alone(language_plan(tiny_decoder, tmp_path / "alone", stack))
    plan = language_plan(tiny_decoder, tmp_path / "pair", stack, scaling=SHARDED)
    one, two = in_group(2, tmp_path / "found", learned, plan)
    assert far_apart(one, two, 0.0) == {}
    assert far_apart(wanted, one, ALIKE) == {}
    assert one["scores"] == two["scores"]


@pytest.mark.parametrize("stack", [[], [{"type": "lora", "rank": 2}, EWC]], ids=name_of)
def test_a_language_model_learns_nothing_from_a_worker_without_rows(tiny_decoder, tmp_path, stack):
    # 24 rows in steps of 23: the last step of an epoch leaves a worker without rows.
    training = {"batch_size": 23}
    wanted = alone(language_plan(tiny_decoder, tmp_path / "one", stack, training=training))
    plan = language_plan(tiny_decoder, tmp_path / "pair", stack, scaling=SHARDED, training=training)
    one, two = in_group(2, tmp_path / "found", learned, plan)
    assert far_apart(one, two, 0.0) == {}
    assert far_apart(wanted, one, ALIKE) == {}


@pytest.mark.parametrize("kind", ON_LANGUAGE)
def test_a_language_model_learns_from_its_parts_what_the_whole_on_each_learns(
    tiny_decoder, tmp_path, kind
):
    scaling = {"num_workers": 2}
    whole = language_plan(tiny_decoder, tmp_path / "whole", [still(kind)], scaling=scaling)
    wanted = in_group(2, tmp_path / "wanted", learned, whole)
    plan = language_plan(tiny_decoder, tmp_path / "parts", [still(kind)], scaling=SHARDED)
    found = in_group(2, tmp_path / "found", learned, plan)
    for one, other in zip(wanted, found, strict=True):
        assert far_apart(one, other, ALIKE) == {}
    assert found[0]["scores"] == found[1]["scores"]


def test_a_tied_embedding_is_sharded_once(tied_decoder, tmp_path):
    wanted = alone(language_plan(tied_decoder, tmp_path / "alone", [EWC]))
    plan = language_plan(tied_decoder, tmp_path / "pair", [EWC], scaling=SHARDED)
    one, _ = in_group(2, tmp_path / "found", learned, plan)
    assert far_apart(wanted, one, ALIKE) == {}
