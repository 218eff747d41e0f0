"""What a warm worker keeps, and does not keep, from one trial to the next."""

import gc

import pytest

from pipelines.models.load import load_tokenizer
from pipelines.models.taught_model import TaughtModel
from pipelines.plan import make_plan, open_lineage
from pipelines.tuning.space import RawSpec
from pipelines.tuning.trial_run import TrialBase, data_key, taught_trial
from tests.tiny import TASKS, write_task


@pytest.fixture
def base(tiny_model, tmp_path):
    raw = {
        "lineage": "tiny",
        "model": {"name": str(tiny_model)},
        "tasks": [write_task(tmp_path / "rows", name, labels) for name, labels in TASKS.items()],
        "methods": [{"type": "ewc"}],
        "training": {"num_epochs": 1, "batch_size": 16, "max_length": 24, "precision": "fp32"},
    }
    source = RawSpec(raw, tmp_path)
    spec = source.with_settings({})
    plan = make_plan(spec, open_lineage(None), load_tokenizer(spec.model), tmp_path / "plan")
    return TrialBase(source, plan.job, plan.data, data_key(spec), tmp_path, 1, None, False)


def taught_models():
    return [own for own in gc.get_objects() if issubclass(type(own), TaughtModel)]


@pytest.mark.parametrize(("rate", "status"), [(1e-3, "done"), (1e30, "failed")])
def test_a_trial_leaves_no_model_behind_in_its_worker(base, rate, status):
    gc.collect()
    before = len(taught_models())
    gc.disable()  # else it may happen to look at the right moment
    try:
        trial = taught_trial(0, {"training.learning_rate": rate}, base, lambda *_: None)
        assert (trial.status, len(taught_models())) == (status, before)
    finally:
        gc.enable()
