"""Covers, beside `describe`: `miniature`."""

import pytest

from ratchet.pipelines.evaluation.paired import rows_to_tell
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.update.describe import describe_update
from tests.tiny import TASKS, teach, tiny_spec

# Two labels of 24 rows a task, half of them for training (tests/tiny.py).
NUM_TRAIN = 24
NUM_HELD_OUT = 12
WIDTH = 32


@pytest.fixture
def planned(tiny_model, tmp_path):
    def describe(methods, tasks=tuple(TASKS), **sections):
        spec = tiny_spec(tiny_model, tmp_path / "data", "tiny", list(tasks), methods, **sections)
        return describe_update(spec, Registry(tmp_path / "home"))

    return describe


def test_says_rows_labels_and_steps_of_each_task(planned):
    found = planned([], training={"num_epochs": 3, "batch_size": 16})
    assert [task["name"] for task in found["tasks"]] == list(TASKS)
    for task in found["tasks"]:
        assert task["num_train"] == NUM_TRAIN
        assert task["num_validation"] == task["num_test"] == NUM_HELD_OUT
        assert task["labels"] == sorted(TASKS[task["name"]])
        assert task["num_steps"] == 3 * 2  # 24 rows in batches of 16
    assert found["num_steps"] == 3 * 6


def test_counts_parameters_and_their_growth(planned):
    found = planned([{"type": "lora", "rank": 4, "per_task": True}])
    # Each of two blocks: query, key, value, output (32 to 32), feed-forward (32 to 64 and back).
    adapter = 2 * (4 * 4 * (WIDTH + WIDTH) + 2 * 4 * (WIDTH + 64))
    head = 2 * WIDTH + 2
    assert found["parameters"]["trainable"] == {
        "first_stage": adapter + head,
        "later_stages": adapter + head,
    }
    grown = found["parameters"]["total"] - found["parameters"]["base"]
    assert grown == len(TASKS) * (adapter + head)


def test_finds_state_that_stays_flat_and_weights_that_grow(planned):
    three = planned([{"type": "ewc"}])["bytes"]["method_state"]
    two = planned([{"type": "ewc"}], tasks=list(TASKS)[:2])["bytes"]["method_state"]
    assert three == pytest.approx(two, rel=0.05)  # only the head grows
    adapters = [{"type": "lora", "rank": 4, "per_task": True}]
    more = planned(adapters)["bytes"]["learned_weights"]
    fewer = planned(adapters, tasks=list(TASKS)[:2])["bytes"]["learned_weights"]
    assert more / fewer == pytest.approx(3 / 2)


def test_bounds_the_memory_by_its_capacity(planned):
    small = planned([{"type": "replay", "capacity": 10}])["bytes"]["memory"]
    large = planned([{"type": "replay", "capacity": 1000}])["bytes"]["memory"]
    assert planned([])["bytes"]["memory"] == 0
    assert large / small == pytest.approx(len(TASKS) * NUM_TRAIN / 10, rel=0.25)


def test_a_stack_without_gradients_takes_no_steps(planned):
    found = planned([{"type": "analytic", "width": 64}])
    assert found["num_steps"] == 0
    assert found["parameters"]["trainable"]["first_stage"] == 0


def test_the_estimate_is_the_sum_of_its_phases_and_says_what_it_rests_on(planned):
    seconds = planned([{"type": "ewc"}])["seconds"]
    assert seconds["estimate"] == pytest.approx(sum(seconds["by_phase"].values()), abs=0.5)
    assert "2 of 3 stages" in seconds["basis"]


def test_joint_tasks_are_one_stage(planned):
    found = planned([], joint=True)
    assert found["tasks"][0]["taught_with"] == list(TASKS)[1:]
    assert found["num_steps"] == 4 * 5  # 72 rows in batches of 16, four epochs, once


def test_an_update_of_a_known_lineage_starts_from_its_champion(tiny_model, tmp_path):
    home = tmp_path / "home"
    teach(home, tiny_spec(tiny_model, tmp_path / "data", "tiny", ["banking"], []))
    spec = tiny_spec(tiny_model, tmp_path / "data", "tiny", ["home"], [])
    found = describe_update(spec, Registry(home))
    assert found["parent"] == 1
    assert [task["name"] for task in found["tasks"]] == ["home"]
    assert not (home / "versions" / "tiny" / "2").exists()


def test_a_search_is_counted_in_trainings_and_in_time(planned):
    found = planned(
        [{"type": "ewc", "strength": "auto"}],
        training={"learning_rate": "auto", "num_epochs": 40},
        stability_decay={"learning_rates": [1e-4, 1e-3], "max_attempts": 3},
    )
    # Two rates for each of three tasks; one to three attempts for all but the first.
    assert found["search"] == {"least": 8, "most": 12}
    seconds = found["seconds"]["by_phase"]
    assert seconds["search"] == pytest.approx(4 * seconds["train"], rel=0.5)
    assert planned([])["search"] is None


def test_says_what_loss_the_held_out_rows_can_tell(planned):
    gate = planned([], gate={"max_forgetting": 0.02, "max_served_loss": 0.5})["gate"]
    assert (gate["max_forgetting"], gate["max_served_loss"]) == (0.02, 0.5)
    assert set(gate["loss_told"]) == set(TASKS)
    for loss in gate["loss_told"].values():
        assert rows_to_tell(1.01 * loss, gate["turned"], 0.95) <= NUM_HELD_OUT
        assert rows_to_tell(0.98 * loss, gate["turned"], 0.95) > NUM_HELD_OUT
