"""Every method config: the union on `type`, and what a stack of them amounts to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from ratchet.pipelines.spec.methods.adapters import (
    AdapterConfig,
    MamConfig,
    OLoraConfig,
    OsfConfig,
    PrefixConfig,
    PromptConfig,
)
from ratchet.pipelines.spec.methods.base import MethodConfig, Scenario
from ratchet.pipelines.spec.methods.growth import ColumnsConfig, ExpansionConfig, ExpertsConfig
from ratchet.pipelines.spec.methods.isolation import (
    AnalyticConfig,
    FreezeConfig,
    HeadsConfig,
    LoraConfig,
)
from ratchet.pipelines.spec.methods.regularization import (
    EwcConfig,
    L2SpConfig,
    LwfConfig,
    MasConfig,
    SiConfig,
)
from ratchet.pipelines.spec.methods.replay import (
    AgemConfig,
    DerConfig,
    GenerativeConfig,
    MixedDataConfig,
    ReplayConfig,
)

AnyMethodConfig = Annotated[
    HeadsConfig
    | FreezeConfig
    | LoraConfig
    | AdapterConfig
    | OLoraConfig
    | PrefixConfig
    | PromptConfig
    | MamConfig
    | OsfConfig
    | AnalyticConfig
    | ColumnsConfig
    | EwcConfig
    | ExpansionConfig
    | ExpertsConfig
    | LwfConfig
    | ReplayConfig
    | SiConfig
    | MasConfig
    | L2SpConfig
    | DerConfig
    | AgemConfig
    | GenerativeConfig
    | MixedDataConfig,
    Field(discriminator="type"),
]

METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    config.model_fields["type"].default: config
    for config in (
        HeadsConfig,
        FreezeConfig,
        LoraConfig,
        AdapterConfig,
        OLoraConfig,
        PrefixConfig,
        PromptConfig,
        MamConfig,
        OsfConfig,
        AnalyticConfig,
        ColumnsConfig,
        EwcConfig,
        ExpansionConfig,
        ExpertsConfig,
        LwfConfig,
        ReplayConfig,
        SiConfig,
        MasConfig,
        L2SpConfig,
        DerConfig,
        AgemConfig,
        GenerativeConfig,
        MixedDataConfig,
    )
}


def isolates_tasks(methods: Sequence[MethodConfig]) -> bool:
    """Whether each task has parameters of its own that later tasks never touch."""
    return any(method.isolates_tasks for method in methods)


def head_layout(
    methods: Sequence[MethodConfig], scenario: Scenario
) -> Literal["per_task", "growing", "shared"]:
    """The layout that `layout: auto` stands for in this stack and scenario."""
    for method in methods:
        if isinstance(method, HeadsConfig) and method.layout != "auto":
            return method.layout
    if scenario == "domain_incremental":
        return "per_task" if isolates_tasks(methods) else "shared"
    if scenario == "task_incremental" or isolates_tasks(methods):
        return "per_task"
    return "growing"
