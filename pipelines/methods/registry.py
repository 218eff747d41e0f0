"""From configs to methods. One line a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from pipelines.method_config import HeadsConfig, MethodConfig, Scenario, head_layout
from pipelines.methods.adapter import Adapter
from pipelines.methods.analytic import Analytic
from pipelines.methods.base import Method, MethodStack
from pipelines.methods.columns import Columns
from pipelines.methods.ewc import Ewc
from pipelines.methods.expansion import Expansion
from pipelines.methods.freeze import Freeze
from pipelines.methods.heads import HeadsMethod
from pipelines.methods.lora import Lora
from pipelines.methods.lwf import Lwf
from pipelines.methods.o_lora import OLora
from pipelines.methods.replay import Replay
from pipelines.methods.si import Si

METHODS: Mapping[str, Callable[[Any], Method]] = MappingProxyType(
    {
        "adapter": Adapter,
        "analytic": Analytic,
        "columns": Columns,
        "ewc": Ewc,
        "expansion": Expansion,
        "freeze": Freeze,
        "heads": HeadsMethod,
        "lora": Lora,
        "lwf": Lwf,
        "o_lora": OLora,
        "replay": Replay,
        "si": Si,
    }
)


def build_stack(configs: Sequence[MethodConfig], scenario: Scenario) -> MethodStack:
    """The methods of a spec as one; heads are added where no method brings them.

    Args:
        configs: A stack without problems (see `stack_problems`).
        scenario: Decides the layout of the heads.
    """
    configs = list(configs)
    types = {config.type for config in configs}
    if not types & {"heads", "analytic"}:
        place = sum(config.owns_structure for config in configs)
        configs.insert(place, HeadsConfig())
    layout = head_layout(configs, scenario)
    resolved = [
        config.model_copy(update={"layout": layout}) if config.type == "heads" else config
        for config in configs
    ]
    return MethodStack({config.type: METHODS[config.type](config) for config in resolved})
