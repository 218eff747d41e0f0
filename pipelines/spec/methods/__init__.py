"""One frozen config class a method, the union of them on `type`, and which of them compose.

The defaults are the vetted settings of each method. Nothing here imports torch, so that the command
line and the service can validate a spec without loading it.
"""

from ratchet.pipelines.spec.methods.adapters import (
    AdapterConfig,
    MamConfig,
    OLoraConfig,
    OsfConfig,
    PrefixConfig,
    PromptConfig,
)
from ratchet.pipelines.spec.methods.base import (
    Family,
    Kind,
    MethodConfig,
    Scenario,
    Sharding,
    StrengthConfig,
)
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
from ratchet.pipelines.spec.methods.rules import stack_problems
from ratchet.pipelines.spec.methods.union import (
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
