"""Trials over data of their own, and of other kinds: each measures what an update of its would."""

import pytest

from pipelines.config import spec_as_dict
from pipelines.models.load import load_tokenizer
from pipelines.plan import make_plan, open_lineage
from pipelines.run import Home, run_update
from pipelines.tuning.space import RawSpec
from pipelines.tuning.trial_run import TrialBase, data_key, taught_trial
from tests.tiny import tiny_spec
from tests.tiny_lm import tiny_lm_spec

EPOCHS = {"num_epochs": 1}


def base_of(spec, folder):
    """What trials of a spec share, as a study makes it."""
    source = RawSpec(spec_as_dict(spec), folder)
    plan = make_plan(source.spec, open_lineage(None), load_tokenizer(spec.model), folder / "plan")
    key = data_key(source.spec)
    return TrialBase(source, plan.job, plan.data, key, folder, 1, None, share_prefixes=False)


def assert_measures_what_an_update_does(base, settings, folder):
    trial = taught_trial(0, settings, base, lambda *_: None)
    assert (trial.status, trial.error) == ("done", None)
    result = run_update(base.source.without_tune(settings), Home(folder.resolve(), None))
    found = trial.seeds[0].test_metrics
    for name in ("average_accuracy", "forgetting", "learning_accuracy"):
        assert found[name] == pytest.approx(result["metrics"][name]), name
    return found


def test_a_trial_whose_rows_differ_reads_its_own(tiny_model, tmp_path):
    spec = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["banking", "home"], [])
    base = base_of(spec, tmp_path / "study")
    cut = assert_measures_what_an_update_does(
        base, {"training.max_length": 4}, tmp_path / "home"
    )  # two words of a text are left
    whole = taught_trial(1, {"training.max_length": 24}, base, lambda *_: None)
    assert cut["learning_accuracy"] < whole.seeds[0].test_metrics["learning_accuracy"]


def test_a_language_model_is_tuned_like_a_classifier(tiny_decoder, tmp_path):
    spec = tiny_lm_spec(
        tiny_decoder, tmp_path / "rows", "tiny", ["banking", "home"], [{"type": "ewc"}]
    )
    base = base_of(spec.model_copy(update={"training": shorter(spec)}), tmp_path / "study")
    settings = {"methods.ewc.strength": 10.0, "training.learning_rate": 1e-3}
    assert_measures_what_an_update_does(base, settings, tmp_path / "home")


def shorter(spec):
    return spec.training.model_copy(update=EPOCHS)
