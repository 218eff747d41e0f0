import pytest

from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.spec.methods.advice import stack_warnings
from tests.conformance.streams import plan_of

GENERATIVE = {"type": "generative"}


def warnings_of(methods, kind="classifier"):
    return stack_warnings(
        [METHOD_CONFIGS[method["type"]].model_validate(method) for method in methods], kind
    )


@pytest.mark.parametrize(
    "others",
    [[], [{"type": "freeze", "num_blocks": 1}], [{"type": "lora"}], [{"type": "replay"}]],
    ids=str,
)
def test_features_that_drift_from_their_imitations_are_warned_of(others):
    (warning,) = warnings_of([*others, GENERATIVE])
    assert "drift" in warning
    assert "freeze" in warning


@pytest.mark.parametrize(
    ("methods", "kind"),
    [
        ([{"type": "freeze", "num_blocks": 0}, GENERATIVE], "classifier"),
        ([{"type": "freeze", "warmup_epochs": 1}, GENERATIVE], "classifier"),
        ([{"type": "generative", "ratio": 0.0}], "classifier"),
        ([GENERATIVE], "causal_lm"),
        ([{"type": "replay"}], "classifier"),
    ],
    ids=str,
)
def test_stacks_in_which_nothing_drifts_are_not(methods, kind):
    assert warnings_of(methods, kind) == []


def test_the_plan_of_an_update_carries_the_warning(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [GENERATIVE])
    assert any("drift" in warning for warning in plan.warnings)
