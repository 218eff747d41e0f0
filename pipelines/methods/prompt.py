"""Prompt tuning (PEFT's parameters): one soft prompt for all tasks, or one a task."""

from __future__ import annotations

from transformers import PreTrainedModel

from ratchet.pipelines.methods.task_parts import TaskParts, peft_task_type
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.models.virtual_tokens import PromptPart
from ratchet.pipelines.spec.methods.adapters import PromptConfig


class Prompt(TaskParts):
    """Trained input embeddings before the text; see `PromptConfig`.

    Source: Lester 2021, arXiv:2104.08691. Deviation: in an encoder the text keeps its position
    embeddings, and all trained tokens stand at the first position.
    """

    part_names = ("prompt",)

    def __init__(self, config: PromptConfig) -> None:
        super().__init__(config)
        self.length = config.length

    def make_part(self, name: str, model: TaughtModel, backbone: PreTrainedModel) -> PromptPart:
        """The embeddings before the text."""
        return PromptPart(backbone, self.length, peft_task_type(model))
