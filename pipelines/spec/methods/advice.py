"""What is legal in a stack and still likely not meant."""

from __future__ import annotations

from collections.abc import Sequence

from ratchet.pipelines.spec.methods.base import Kind, MethodConfig
from ratchet.pipelines.spec.methods.isolation import FreezeConfig
from ratchet.pipelines.spec.methods.replay import GenerativeConfig


def stack_warnings(methods: Sequence[MethodConfig], kind: Kind) -> list[str]:
    """A sentence for each method that can do little in this stack, and what to do.

    Args:
        methods: A stack without problems.
        kind: The kind of model that they are to teach.
    """
    imitates = any(isinstance(m, GenerativeConfig) and m.ratio > 0 for m in methods)
    if kind != "classifier" or not imitates or any(map(_keeps_features, methods)):
        return []
    return [
        "generative rehearses the features of old classes as they were when these were learned, "
        "and in this stack the backbone trains on, so that true features drift away from them: "
        "add freeze with num_blocks: 0, or with warmup_epochs"
    ]


def _keeps_features(method: MethodConfig) -> bool:
    """Whether features stay what they were from the first task on, or from its warm-up."""
    if not isinstance(method, FreezeConfig):
        return False
    return method.num_blocks == 0 or method.warmup_epochs is not None
