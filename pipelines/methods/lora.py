# pyright: reportUnnecessaryIsInstance=false
"""Low-rank adapters (PEFT's): one shared, or one a task that later tasks never touch."""

from __future__ import annotations

from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from transformers import PreTrainedModel

from ratchet.pipelines.methods.base import Method
from ratchet.pipelines.methods.task_parts import peft_task_type
from ratchet.pipelines.models.part import task_part
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.adapters import OLoraConfig
from ratchet.pipelines.spec.methods.isolation import LoraConfig
from ratchet.pipelines.types import Task

SHARED_ADAPTER = "shared"


class Lora(Method):
    """W + (alpha / rank) B A in every linear layer of the backbone; see `LoraConfig`.

    Source: Hu 2021, arXiv:2106.09685. Deviation: all linear layers, not only the attention's; B
    starts at zero, so a new adapter starts as the base model itself, also in the middle of a
    lineage.
    """

    def __init__(self, config: LoraConfig) -> None:
        self.config = config

    def adapter_name(self, task_id: int) -> str:
        """Name of the adapter that answers for a task."""
        return task_part(task_id) if self.config.per_task else SHARED_ADAPTER

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Add the adapter of a task where it is missing."""
        add_adapter(model, self.adapter_name(task.id), self.config)

    def activate(self, model: TaughtModel, task_id: int) -> None:
        """Let the adapter of a task answer, and train where training is on."""
        assert isinstance(model.backbone, PeftModel), "expand() made it"
        model.backbone.set_adapter(self.adapter_name(task_id))


def add_adapter(model: TaughtModel, name: str, config: LoraConfig | OLoraConfig) -> None:
    """Add a low-rank adapter to the backbone where it is missing; the first one freezes the base.

    Args:
        model: Its backbone is plain, or PEFT's already.
        name: The adapter's name.
        config: Its settings.
    """
    settings = PeftLoraConfig(
        task_type=peft_task_type(model),
        r=config.rank,
        lora_alpha=config.alpha,  # pyright: ignore[reportArgumentType] - any number works
        lora_dropout=config.dropout,
        target_modules="all-linear",
    )
    if isinstance(model.backbone, PreTrainedModel):
        model.keep_base()
        is_training = model.backbone.training
        adapted = get_peft_model(model.backbone, settings, adapter_name=name)
        model.backbone = adapted.train(is_training)
    elif isinstance(model.backbone, PeftModel) and name not in model.backbone.peft_config:
        model.backbone.add_adapter(name, settings)
