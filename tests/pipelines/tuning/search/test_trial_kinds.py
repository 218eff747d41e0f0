"""Trials over data of their own, and of other kinds: each measures what an update of its would."""

from dataclasses import replace

import pytest

from ratchet.pipelines.models.load import load_tokenizer
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.spec.update_spec import spec_as_dict
from ratchet.pipelines.tuning.page.details import details
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.search.trial_run import TrialBase, data_key, taught_trial
from ratchet.pipelines.update.plan import make_plan
from ratchet.pipelines.update.start import open_start
from ratchet.pipelines.version import read_matrix
from tests.pipelines.tuning.trials import study
from tests.tiny import TASKS, run_update, tiny_spec
from tests.tiny_lm import tiny_lm_spec

EPOCHS = {"num_epochs": 1}


def base_of(spec, folder):
    """What trials of a spec share, as a study makes it."""
    source = RawSpec(spec_as_dict(spec), folder)
    plan = make_plan(source.spec, open_start(None), load_tokenizer(spec.model), folder / "plan")
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


def test_on_top_of_a_champion_a_trial_answers_for_what_it_does_only(tiny_model, tmp_path):
    home = Home((tmp_path / "home").resolve(), None)
    for names in (["banking"], ["home"]):  # the second one, held by nothing, forgets the first
        run_update(tiny_spec(tiny_model, tmp_path / names[0], "tiny", names, []), home)
    home.registry.promote("tiny", 2)
    spec = tiny_spec(
        tiny_model,
        tmp_path / "rows",
        "tiny",
        {"kitchen": TASKS["kitchen"], "media": ["film", "book"]},
        [],
    )
    champion = home.registry.path("tiny", 2)
    source = RawSpec(spec_as_dict(spec), tmp_path)
    lineage = open_start(champion)
    plan = make_plan(source.spec, lineage, load_tokenizer(spec.model), tmp_path / "plan")
    base = TrialBase(
        source, plan.job, plan.data, data_key(source.spec), tmp_path / "study", 1, None, False
    )
    trial = taught_trial(0, {}, base, lambda *_: None)
    (seed,) = trial.seeds
    known = read_matrix(champion)["validation_all"]
    assert seed.num_past == 2
    assert seed.accuracy_matrix[0][:2] == tuple(known[1])
    assert len(seed.accuracy_matrix) == 3
    first, second, last = seed.accuracy_matrix
    learned = [second[2], last[3]]
    assert seed.metrics["learning_accuracy"] == pytest.approx(sum(learned) / 2)
    best = [max(first[task] or 0.0, second[task]) for task in range(3)]
    lost = [had - now for had, now in zip(best, last[:3], strict=True)]
    assert seed.metrics["forgetting"] == pytest.approx(sum(lost) / 3)
    assert seed.metrics["average_accuracy"] == pytest.approx(sum(last) / 4)
    (row, *_) = details(replace(study([trial]), tune=study([]).tune))[0].heat
    assert row.after == "the champion"


def test_a_language_model_is_tuned_like_a_classifier(tiny_decoder, tmp_path):
    spec = tiny_lm_spec(
        tiny_decoder, tmp_path / "rows", "tiny", ["banking", "home"], [{"type": "ewc"}]
    )
    base = base_of(spec.model_copy(update={"training": shorter(spec)}), tmp_path / "study")
    settings = {"methods.ewc.strength": 10.0, "training.learning_rate": 1e-3}
    assert_measures_what_an_update_does(base, settings, tmp_path / "home")


def shorter(spec):
    return spec.training.model_copy(update=EPOCHS)
