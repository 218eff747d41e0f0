"""Covers `adapters`, `base`, `growth`, `head_layout`, `isolation`, `regularization`, `replay`,
`rules`, `union`."""

import pytest
from pydantic import ValidationError

from ratchet.pipelines.spec.methods import METHOD_CONFIGS, stack_problems


def problems(methods, scenario="class_incremental"):
    configs = [METHOD_CONFIGS[method["type"]].model_validate(method) for method in methods]
    return stack_problems(configs, scenario)


def stack(*types, **settings):
    return [{"type": kind, **settings.get(kind, {})} for kind in types]


@pytest.mark.parametrize(
    "methods",
    [
        [],
        stack("lora", "replay", "ewc"),
        stack("freeze", "lwf"),
        stack("heads", "ewc", "lwf", "replay"),
        stack("lora", lora={"per_task": True}),
        stack("analytic"),
        stack("heads", heads={"preallocate": True}),
    ],
    ids=str,
)
def test_sound_stacks_have_no_problems(methods):
    assert problems(methods) == []


@pytest.mark.parametrize(
    ("methods", "where", "message"),
    [
        (stack("ewc", "ewc"), "methods[1].type", "once"),
        (stack("ewc", "lora"), "methods[1]", "come first"),
        (stack("lora", "freeze"), "methods", "only one may"),
        (stack("analytic", "replay"), "methods[1]", "nothing to protect"),
        (stack("analytic", "ewc"), "methods[1]", "nothing to protect"),
        (stack("lora", "ewc", lora={"per_task": True}), "methods[1]", "nothing to protect"),
        (stack("heads", "analytic"), "methods", "its own head"),
        (stack("heads", heads={"layout": "shared"}), "methods.heads.layout", "same labels"),
        (
            stack("heads", heads={"layout": "per_task", "preallocate": True}),
            "methods.heads.preallocate",
            "needs layout growing",
        ),
        (
            stack("lora", "heads", lora={"per_task": True}, heads={"layout": "growing"}),
            "methods.heads.layout",
            "a head a task",
        ),
    ],
    ids=str,
)
def test_a_stack_that_cannot_work_is_refused_with_the_reason(methods, where, message):
    found = problems(methods)
    assert [problem.where for problem in found] == [where]
    assert message in found[0].message
    assert found[0].hint


def test_one_head_for_all_domains_cannot_go_with_an_adapter_each():
    """Its accuracy without the task id would be measured with the task's own adapter."""
    methods = stack("lora", "heads", lora={"per_task": True}, heads={"layout": "shared"})
    (problem,) = problems(methods, "domain_incremental")
    assert problem.where == "methods.heads.layout"
    assert problem.value == "shared"


@pytest.mark.parametrize("kind", METHOD_CONFIGS)
def test_configs_are_frozen_and_refuse_unknown_fields(kind):
    config = METHOD_CONFIGS[kind]()
    with pytest.raises(ValidationError, match="frozen"):
        config.type = "other"
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        METHOD_CONFIGS[kind].model_validate({"type": kind, "strenght": 1})


@pytest.mark.parametrize("kind", METHOD_CONFIGS)
def test_every_config_says_what_it_is(kind):
    config = METHOD_CONFIGS[kind]
    assert config.summary
    assert config.family in ("regularization", "replay", "isolation", "head")
    assert config.__doc__
