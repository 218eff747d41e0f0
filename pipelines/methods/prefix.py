"""Prefix tuning (PEFT's parameters): one prefix for all tasks, or one a task."""

from __future__ import annotations

from transformers import PreTrainedModel

from ratchet.pipelines.methods.task_parts import TaskParts, peft_task_type
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.models.virtual_tokens import PrefixPart
from ratchet.pipelines.spec.methods.adapters import PrefixConfig


class Prefix(TaskParts):
    """Trained keys and values before the text in every layer; see `PrefixConfig`.

    Source: Li & Liang 2021, arXiv:2101.00190. Deviations: the prefix itself trains, not a network
    that gives it; it starts close to zero, so that at first it only takes a share of the attention;
    in an encoder the text keeps its position embeddings.
    """

    part_names = ("prefix",)

    def __init__(self, config: PrefixConfig) -> None:
        super().__init__(config)
        self.length = config.length

    def make_part(self, name: str, model: TaughtModel, backbone: PreTrainedModel) -> PrefixPart:
        """The prefix of every layer."""
        return PrefixPart(backbone, self.length, peft_task_type(model))
