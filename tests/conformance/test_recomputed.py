"""Activations that are computed again: every method learns the same from them, or is refused."""

import pytest

from tests.conformance.claims import claiming
from tests.conformance.streams import (
    ON_LANGUAGE_MODELS,
    SETTINGS,
    differences,
    knowledge,
    plan_of,
    problems_of,
    taught,
)
from tests.conformance.test_language_models import language_plan

REFUSED = claiming(lambda config: config.recompute_reason)


def alone(kinds):
    """A stack of each method by itself."""
    return [[{"type": kind, **SETTINGS[kind]}] for kind in kinds]


@pytest.fixture(params=["classifier", "causal_lm"])
def kind(request):
    return request.param


def test_some_methods_are_refused():
    assert {"prefix", "experts"} <= set(REFUSED)


@pytest.mark.parametrize("method", REFUSED)
def test_methods_that_a_second_run_would_mislead_are_refused(method, kind):
    (stack,) = alone([method])
    (problem,) = problems_of(stack, kind=kind, gradient_checkpointing=True)
    assert problem.where == "training.gradient_checkpointing"
    assert f"does not work with {method}: " in str(problem)
    assert "Set it to false" in str(problem)
    assert not problems_of(stack, kind=kind)


def same_either_way(planned, folder):
    """Whether a plan, made without and with the setting, teaches the same bit for bit."""
    once, again = (
        knowledge(taught(planned(folder / str(setting), setting))) for setting in (False, True)
    )
    assert differences(once, again) == []


@pytest.mark.parametrize(
    "stack",
    alone(sorted(set(claiming(lambda config: "classifier" in config.kinds)) - {*REFUSED})),
    ids=lambda s: s[0]["type"],
)
def test_all_others_learn_the_same_on_a_classifier(still_model, tmp_path, stack):
    def planned(folder, setting):
        training = {"num_epochs": 1, "gradient_checkpointing": setting}
        return plan_of(still_model, folder, stack, training=training)

    same_either_way(planned, tmp_path)


@pytest.mark.parametrize(
    "stack", alone(sorted(set(ON_LANGUAGE_MODELS) - set(REFUSED))), ids=lambda s: s[0]["type"]
)
@pytest.mark.filterwarnings("ignore:generative")
def test_all_others_learn_the_same_on_a_language_model(tiny_decoder, tmp_path, stack):
    def planned(folder, setting):
        training = {"num_epochs": 1, "gradient_checkpointing": setting}
        return language_plan(tiny_decoder, folder, stack, training=training)

    same_either_way(planned, tmp_path)
