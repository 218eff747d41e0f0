"""One frozen config class a method, the union of them on `type`, and which of them compose.

The defaults are the vetted settings of each method. Nothing here imports torch, so that the command
line and the service can validate a spec without loading it.
"""

from pipelines.method_config.adapters import (
    AdapterConfig,
    MamConfig,
    OLoraConfig,
    OsfConfig,
    PrefixConfig,
    PromptConfig,
)
from pipelines.method_config.base import (
    Family,
    Kind,
    MethodConfig,
    Scenario,
    Sharding,
    StrengthConfig,
)
from pipelines.method_config.growth import ColumnsConfig, ExpansionConfig, ExpertsConfig
from pipelines.method_config.isolation import (
    AnalyticConfig,
    FreezeConfig,
    HeadsConfig,
    LoraConfig,
)
from pipelines.method_config.regularization import (
    EwcConfig,
    L2SpConfig,
    LwfConfig,
    MasConfig,
    SiConfig,
)
from pipelines.method_config.replay import (
    AgemConfig,
    DerConfig,
    GenerativeConfig,
    MixedDataConfig,
    ReplayConfig,
)
from pipelines.method_config.rules import stack_problems
from pipelines.method_config.union import (
    METHOD_CONFIGS,
    AnyMethodConfig,
    head_layout,
    isolates_tasks,
)

__all__ = [
    "METHOD_CONFIGS",
    "AdapterConfig",
    "AgemConfig",
    "AnalyticConfig",
    "AnyMethodConfig",
    "ColumnsConfig",
    "DerConfig",
    "EwcConfig",
    "ExpansionConfig",
    "ExpertsConfig",
    "Family",
    "FreezeConfig",
    "GenerativeConfig",
    "HeadsConfig",
    "Kind",
    "L2SpConfig",
    "LoraConfig",
    "LwfConfig",
    "MamConfig",
    "MasConfig",
    "MethodConfig",
    "MixedDataConfig",
    "OLoraConfig",
    "OsfConfig",
    "PrefixConfig",
    "PromptConfig",
    "ReplayConfig",
    "Scenario",
    "Sharding",
    "SiConfig",
    "StrengthConfig",
    "head_layout",
    "isolates_tasks",
    "stack_problems",
]
