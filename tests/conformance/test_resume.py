"""An interrupted stream goes on as if it had not been: weights, memory, metrics, bit for bit."""

import pytest

from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from tests.conformance.streams import (
    InterruptingCheckpoints,
    Interruption,
    differences,
    knowledge,
    legal_stacks,
    name_of,
    plan_of,
    taught,
    teacher_of,
)

EVERY_STEP = {"training": {"checkpoint_every_steps": 1}}
SAVES = {"inside the first task": 1, "at an epoch's end": 2, "inside the second task": 5}


def interrupted(plan, number):
    """The knowledge of a teacher that was cut off after some saves and begun again."""
    folder = plan.job.folder / f"checkpoints_{number}"
    with pytest.raises(Interruption):
        taught(plan, store=InterruptingCheckpoints(folder, number))
    teacher = teacher_of(plan, store=InterruptingCheckpoints(folder, -1))
    teacher.run()
    return knowledge(teacher)


@pytest.mark.parametrize("stack", legal_stacks(), ids=name_of)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(tiny_model, tmp_path, stack):
    plan = plan_of(tiny_model, tmp_path, stack, **EVERY_STEP)
    undisturbed = knowledge(taught(plan))
    gradient_free = not all(METHOD_CONFIGS[method["type"]].trains for method in stack)
    for place in [1] if gradient_free else SAVES.values():
        assert differences(undisturbed, interrupted(plan, place)) == []


@pytest.mark.parametrize("stack", [s for s in legal_stacks() if len(s) == 1], ids=name_of)
def test_the_same_seed_gives_the_same_weights_in_one_process(tiny_model, tmp_path, stack):
    plan = plan_of(tiny_model, tmp_path, stack)
    first = knowledge(taught(plan_of(tiny_model, tmp_path / "again", stack)))
    assert differences(first, knowledge(taught(plan))) == []


def test_another_seed_gives_other_weights(tiny_model, tmp_path):
    first = knowledge(taught(plan_of(tiny_model, tmp_path / "one", [])))
    other = plan_of(tiny_model, tmp_path / "two", [], training={"seed": 1})
    assert differences(first, knowledge(taught(other)))
