"""One frozen config class a method, the union of them on `type`, and which of them compose.

The defaults are the vetted settings of each method. Nothing here imports torch, so that the command
line and the service can validate a spec without loading it. A method's own config is imported from
its module: the list of them is `union.py` alone.
"""

from ratchet.pipelines.spec.methods.base import (
    Family,
    Kind,
    MethodConfig,
    Scenario,
    Sharding,
    StrengthConfig,
)
from ratchet.pipelines.spec.methods.head_layout import head_layout, isolates_tasks
from ratchet.pipelines.spec.methods.rules import stack_problems
from ratchet.pipelines.spec.methods.union import METHOD_CONFIGS, AnyMethodConfig

__all__ = [
    "METHOD_CONFIGS",
    "AnyMethodConfig",
    "Family",
    "Kind",
    "MethodConfig",
    "Scenario",
    "Sharding",
    "StrengthConfig",
    "head_layout",
    "isolates_tasks",
    "stack_problems",
]
