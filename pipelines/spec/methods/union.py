"""The list of all methods, kept here and nowhere else: one line a method.

Everything else follows from it: the table by type, the rules, `ratchet methods`, and which class
of `ratchet.pipelines.methods` runs a method (see `registry.py` there).
"""

from __future__ import annotations

from typing import Annotated, get_args

from pydantic import Field

from ratchet.pipelines.spec.methods import adapters, growth, isolation, regularization, replay
from ratchet.pipelines.spec.methods.base import MethodConfig

AnyMethodConfig = Annotated[
    isolation.HeadsConfig
    | isolation.FreezeConfig
    | isolation.LoraConfig
    | adapters.AdapterConfig
    | adapters.OLoraConfig
    | adapters.PrefixConfig
    | adapters.PromptConfig
    | adapters.MamConfig
    | adapters.OsfConfig
    | isolation.AnalyticConfig
    | growth.ColumnsConfig
    | regularization.EwcConfig
    | growth.ExpansionConfig
    | growth.ExpertsConfig
    | regularization.LwfConfig
    | replay.ReplayConfig
    | regularization.SiConfig
    | regularization.MasConfig
    | regularization.L2SpConfig
    | regularization.WiseFtConfig
    | replay.DerConfig
    | replay.AgemConfig
    | replay.GenerativeConfig
    | replay.MixedDataConfig,
    Field(discriminator="type"),
]

METHOD_CONFIGS: dict[str, type[MethodConfig]] = {
    config.model_fields["type"].default: config for config in get_args(get_args(AnyMethodConfig)[0])
}
