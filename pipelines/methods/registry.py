"""From configs to methods. One line a method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from ratchet.pipelines.methods.adapter import Adapter
from ratchet.pipelines.methods.agem import Agem
from ratchet.pipelines.methods.analytic import Analytic
from ratchet.pipelines.methods.base import Method, MethodStack
from ratchet.pipelines.methods.columns import Columns
from ratchet.pipelines.methods.der import Der
from ratchet.pipelines.methods.ewc import Ewc
from ratchet.pipelines.methods.expansion import Expansion
from ratchet.pipelines.methods.experts import Experts
from ratchet.pipelines.methods.freeze import Freeze
from ratchet.pipelines.methods.generative import Generative
from ratchet.pipelines.methods.heads import HeadsMethod
from ratchet.pipelines.methods.l2_sp import L2Sp
from ratchet.pipelines.methods.lora import Lora
from ratchet.pipelines.methods.lwf import Lwf
from ratchet.pipelines.methods.mam import Mam
from ratchet.pipelines.methods.mas import Mas
from ratchet.pipelines.methods.mixed_data import MixedData
from ratchet.pipelines.methods.o_lora import OLora
from ratchet.pipelines.methods.osf import Osf
from ratchet.pipelines.methods.prefix import Prefix
from ratchet.pipelines.methods.prompt import Prompt
from ratchet.pipelines.methods.replay import Replay
from ratchet.pipelines.methods.si import Si
from ratchet.pipelines.spec.methods import HeadsConfig, Kind, MethodConfig, Scenario, head_layout

METHODS: Mapping[str, Callable[[Any], Method]] = MappingProxyType(
    {
        "adapter": Adapter,
        "agem": Agem,
        "analytic": Analytic,
        "columns": Columns,
        "der": Der,
        "ewc": Ewc,
        "expansion": Expansion,
        "experts": Experts,
        "freeze": Freeze,
        "generative": Generative,
        "heads": HeadsMethod,
        "l2_sp": L2Sp,
        "lora": Lora,
        "lwf": Lwf,
        "mam": Mam,
        "mas": Mas,
        "mixed_data": MixedData,
        "o_lora": OLora,
        "osf": Osf,
        "prefix": Prefix,
        "prompt": Prompt,
        "replay": Replay,
        "si": Si,
    }
)


def build_stack(
    configs: Sequence[MethodConfig], scenario: Scenario, kind: Kind = "classifier"
) -> MethodStack:
    """The methods of a spec as one; a classifier gets heads where no method brings them.

    Args:
        configs: A stack without problems (see `stack_problems`).
        scenario: Decides the layout of the heads.
        kind: The kind of model that is taught.
    """
    configs = list(configs)
    types = {config.type for config in configs}
    if kind == "classifier" and not types & {"heads", "analytic"}:
        place = sum(config.owns_structure for config in configs)
        configs.insert(place, HeadsConfig())
    layout = head_layout(configs, scenario)
    resolved = [
        config.model_copy(update={"layout": layout}) if config.type == "heads" else config
        for config in configs
    ]
    return MethodStack({config.type: METHODS[config.type](config) for config in resolved})
