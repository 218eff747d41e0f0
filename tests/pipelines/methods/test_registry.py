from typing import get_args

import pytest
from pydantic import TypeAdapter

from ratchet.pipelines.methods.base import Method
from ratchet.pipelines.methods.registry import METHODS, build_stack
from ratchet.pipelines.spec.methods import METHOD_CONFIGS, AnyMethodConfig
from tests.conformance.streams import SETTINGS


def test_the_union_of_configs_the_table_and_the_registry_have_the_same_types():
    union, _ = get_args(AnyMethodConfig)
    types = {config.model_fields["type"].default for config in get_args(union)}
    assert types == METHODS.keys() == METHOD_CONFIGS.keys()
    assert types == SETTINGS.keys()  # every method has its row in the conformance tests


@pytest.mark.parametrize("kind", METHODS)
def test_every_method_is_made_from_its_defaults(kind):
    config = TypeAdapter(AnyMethodConfig).validate_python({"type": kind})
    stack = build_stack([config], "class_incremental")
    assert isinstance(stack.methods[kind], Method)


@pytest.mark.parametrize(
    ("types", "order"),
    [
        ([], ["heads"]),
        (["ewc"], ["heads", "ewc"]),
        (["lora", "replay", "ewc"], ["lora", "heads", "replay", "ewc"]),
        (["heads", "lwf"], ["heads", "lwf"]),
        (["analytic"], ["analytic"]),
    ],
)
def test_heads_are_added_after_the_methods_that_own_structure(types, order):
    stack = build_stack([METHOD_CONFIGS[kind]() for kind in types], "class_incremental")
    assert list(stack.methods) == order


@pytest.mark.parametrize(
    ("scenario", "methods", "layout"),
    [
        ("class_incremental", [], "growing"),
        ("task_incremental", [], "per_task"),
        ("domain_incremental", [], "shared"),
        ("class_incremental", [{"type": "lora", "per_task": True}], "per_task"),
        ("domain_incremental", [{"type": "lora", "per_task": True}], "per_task"),
        ("domain_incremental", [{"type": "lora"}], "shared"),
        ("class_incremental", [{"type": "heads", "layout": "per_task"}], "per_task"),
    ],
)
def test_automatic_heads_fit_the_scenario_and_the_stack(scenario, methods, layout):
    configs = [METHOD_CONFIGS[method["type"]].model_validate(method) for method in methods]
    assert build_stack(configs, scenario).methods["heads"].config.layout == layout
