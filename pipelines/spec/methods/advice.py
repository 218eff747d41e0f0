"""What is legal in a stack and still likely not meant."""

from __future__ import annotations

from collections.abc import Sequence

from ratchet.pipelines.spec.methods.base import Kind, MethodConfig
from ratchet.pipelines.spec.methods.replay import GenerativeConfig


def stack_warnings(methods: Sequence[MethodConfig], kind: Kind) -> list[str]:
    """A sentence for each method that can do little in this stack, and what to do.

    Args:
        methods: A stack without problems.
        kind: The kind of model that they are to teach.
    """
    imitates = any(isinstance(m, GenerativeConfig) and m.ratio > 0 for m in methods)
    if kind != "classifier" or not imitates or any(m.keeps_features for m in methods):
        return []
    return [
        "generative rehearses the features of old classes as they were when these were learned, "
        "and in this stack the backbone trains on, so that true features drift away from them: "
        "add freeze with num_blocks: 0, or with warmup_epochs"
    ]
