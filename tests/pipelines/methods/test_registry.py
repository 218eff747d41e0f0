import re
from pathlib import Path
from typing import get_args

import pytest
from pydantic import TypeAdapter

from ratchet.pipelines.methods import registry
from ratchet.pipelines.methods.registry import build_stack
from ratchet.pipelines.spec.methods import METHOD_CONFIGS, AnyMethodConfig
from tests.conformance.streams import SETTINGS

METHODS_FOLDER = Path(registry.__file__).parent


@pytest.mark.parametrize("kind", METHOD_CONFIGS)
def test_every_method_is_made_from_its_defaults(kind):
    config = TypeAdapter(AnyMethodConfig).validate_python({"type": kind})
    stack = build_stack([config], "class_incremental")
    assert type(stack.methods[kind]).__module__ == f"{registry.__package__}.{kind}"


def test_the_table_holds_the_union_and_every_method_has_its_row():
    union, _ = get_args(AnyMethodConfig)
    assert tuple(METHOD_CONFIGS.values()) == get_args(union)
    assert METHOD_CONFIGS.keys() == SETTINGS.keys()  # its row in the conformance tests


def test_no_second_file_lists_the_methods():
    """A config is named where it is defined, in the union, and where its own method uses it."""
    names = {config.__name__ for config in METHOD_CONFIGS.values()}
    homes = {f"{config.__module__.rpartition('.')[2]}.py" for config in METHOD_CONFIGS.values()}
    listing = {
        path.name
        for package in ("pipelines", "service")
        for path in (METHODS_FOLDER.parents[1] / package).rglob("*.py")
        if len(names & set(re.findall(r"\w+", path.read_text(encoding="utf-8")))) > 2
    }
    assert listing - homes == {"union.py"}


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
