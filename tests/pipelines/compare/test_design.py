import pytest
import yaml

from ratchet.pipelines.compare.contender import contenders
from ratchet.pipelines.compare.design import Design, plan_runs, reordered
from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.spec.presets import read_preset

TASK_NAMES = ("a", "b", "c", "d")


@pytest.fixture
def spec_path(tmp_path):
    """A spec with its own methods and two training settings."""
    (tmp_path / "rows.jsonl").write_text('{"text": "x", "label": "y"}\n')
    spec = {
        "lineage": "tiny",
        "model": {"name": "one"},
        "tasks": [{"name": name, "train": "rows.jsonl"} for name in TASK_NAMES],
        "preset": "replay",
        "training": {"num_epochs": 7, "batch_size": 4, "max_grad_norm": None},
    }
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def planned(path, names, **design):
    return plan_runs(path, contenders(names), Design(**design))


def test_the_specs_own_stack_is_replaced(spec_path):
    (run,) = planned(spec_path, ["ewc"])
    assert [method.type for method in run.spec.methods] == ["ewc"]
    assert run.spec.preset is None


def test_a_presets_training_stands_over_the_specs(spec_path):
    (run,) = planned(spec_path, ["ewc"])
    assert run.spec.training.num_epochs == read_preset("ewc")["training"]["num_epochs"]
    assert run.spec.training.batch_size == 4
    assert run.spec.training.max_grad_norm is None


def test_the_same_training_is_the_specs(spec_path):
    (run,) = planned(spec_path, ["ewc"], same_training=True)
    assert run.spec.training.num_epochs == 7


def test_changes_stand_over_everything(spec_path):
    (run,) = planned(spec_path, ["ewc"], changes=("training.num_epochs=1",))
    assert run.spec.training.num_epochs == 1


def test_changes_may_not_reach_into_the_stacks(spec_path):
    with pytest.raises(SpecError, match="sets the methods itself"):
        planned(spec_path, ["ewc"], changes=("methods.ewc.strength=3",))


def test_every_seed_is_a_run_and_the_first_seed_of_all_comes_first(spec_path):
    runs = planned(spec_path, ["ewc", "analytic"], num_seeds=2)
    assert [run.key for run in runs] == [
        "ewc.seed_0",
        "analytic.seed_0",
        "ewc.seed_1",
        "analytic.seed_1",
    ]
    assert [run.spec.training.seed for run in runs] == [0, 0, 1, 1]
    assert [runs[i].spec.methods[0].projection_seed for i in (1, 3)] == [0, 1]


def test_orders_are_permutations_and_the_first_is_the_specs_own(spec_path):
    runs = planned(spec_path, ["ewc"], num_orders=4)
    orders = [tuple(task.name for task in run.spec.tasks) for run in runs]
    assert orders[0] == TASK_NAMES
    assert all(sorted(order) == list(TASK_NAMES) for order in orders)
    assert len(set(orders)) > 1
    assert orders == [
        tuple(task.name for task in run.spec.tasks)
        for run in planned(spec_path, ["ewc"], num_orders=4)
    ]


def test_what_is_learned_at_once_has_no_order(spec_path):
    runs = planned(spec_path, ["joint", "ewc"], num_orders=2)
    assert [run.key for run in runs] == ["joint.seed_0", "ewc.seed_0", "ewc.seed_0.order_1"]


@pytest.mark.parametrize(("own", "wanted"), [("sorted", 2), ("given", 2), (5, 7)])
def test_a_stream_is_cut_in_another_order(own, wanted):
    raw = {"stream": {"train": "x", "by": "domain", "order": own}}
    assert reordered(raw, 2)["stream"]["order"] == wanted
    assert reordered(raw, 0) == raw


def test_models_are_a_further_axis(spec_path, tmp_path):
    folder = tmp_path / "two"
    folder.mkdir()
    runs = planned(spec_path, ["ewc"], models=(str(folder),))
    assert [run.key for run in runs] == ["ewc.seed_0", "ewc.seed_0.model_1"]
    assert [run.model for run in runs] == ["one", "two"]
    assert runs[1].spec.model.name == str(folder)


def test_a_stack_that_does_not_fit_is_a_run_with_its_problem(spec_path):
    raw = yaml.safe_load(spec_path.read_text())
    spec_path.write_text(yaml.safe_dump(raw | {"model": {"name": "one", "kind": "causal_lm"}}))
    fine, wrong = planned(spec_path, ["finetune", "analytic"])
    assert (fine.problem, wrong.spec) == (None, None)
    assert "analytic" in wrong.problem


@pytest.mark.parametrize("design", [{"num_seeds": 0}, {"num_orders": 0}], ids=["seeds", "orders"])
def test_numbers_below_one_are_refused(spec_path, design):
    with pytest.raises(SpecError, match="at least 1"):
        planned(spec_path, ["ewc"], **design)
