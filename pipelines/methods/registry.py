# pyright: reportUnknownMemberType=false
"""From configs to methods: what a config is called says which class runs it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

from ratchet.pipelines.methods.base import Method, MethodStack
from ratchet.pipelines.spec.methods import Kind, MethodConfig, Scenario, head_layout
from ratchet.pipelines.spec.methods.isolation import HeadsConfig


def make_method(config: MethodConfig) -> Method:
    """The method of a config.

    The module carries the config's type, and the class the config's name without `Config`: `l2_sp`,
    `L2SpConfig` -> `l2_sp.L2Sp`. So the list of methods is kept once, where no torch is loaded.
    """
    module = import_module(f"ratchet.pipelines.methods.{config.type}")
    made = getattr(module, type(config).__name__.removesuffix("Config"))(config)
    assert isinstance(made, Method), f"{made} is no method"
    return made


def build_stack(
    configs: Sequence[MethodConfig], scenario: Scenario, kind: Kind = "classifier"
) -> MethodStack:
    """The methods of a spec as one; a classifier that learns by gradient gets heads.

    Args:
        configs: A stack without problems (see `stack_problems`).
        scenario: Decides the layout of the heads.
        kind: The kind of model that is taught.
    """
    configs = list(configs)
    has_heads = any(isinstance(config, HeadsConfig) or not config.trains for config in configs)
    if kind == "classifier" and not has_heads:
        place = sum(config.owns_structure for config in configs)
        configs.insert(place, HeadsConfig())
    layout = head_layout(configs, scenario)
    resolved = [
        config.model_copy(update={"layout": layout}) if isinstance(config, HeadsConfig) else config
        for config in configs
    ]
    return MethodStack({config.type: make_method(config) for config in resolved})
