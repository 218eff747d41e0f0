"""Each method against forgetting, strong enough, keeps an old task that fine-tuning loses."""

import pytest

from tests.conformance.streams import name_of, plan_of, taught

SETTINGS = {"num_epochs": 12, "learning_rate": 3e-3}
STACKS = [
    [{"type": "si", "strength": 100.0}],
    [{"type": "mas", "strength": 100.0}],
    [{"type": "der", "capacity": 24}],
    [{"type": "agem", "capacity": 24}],
]


def kept(model, folder, stack):
    """Test accuracy of the first task, among all classes, before and after the second."""
    teacher = taught(plan_of(model, folder, stack, training=SETTINGS))
    return [row["banking"]["test_all"] for row in teacher.scores]


@pytest.fixture(scope="module")
def lost(tiny_model, tmp_path_factory):
    return kept(tiny_model, tmp_path_factory.mktemp("finetune"), [])


@pytest.mark.parametrize("stack", STACKS, ids=name_of)
def test_an_old_task_is_kept_that_fine_tuning_loses(tiny_model, tmp_path, lost, stack):
    assert lost[0] >= 0.9
    assert lost[1] <= 0.2
    learned, final = kept(tiny_model, tmp_path, stack)
    assert learned >= 0.9
    assert final >= 0.5
