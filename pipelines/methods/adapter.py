"""Bottleneck adapters: one set shared by all tasks, or one a task that later tasks never touch."""

from __future__ import annotations

from transformers import PreTrainedModel

from ratchet.pipelines.methods.task_parts import TaskParts
from ratchet.pipelines.models.bottleneck import BottleneckPart
from ratchet.pipelines.models.sublayers import sublayers_of
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.adapters import AdapterConfig


class Adapter(TaskParts):
    """x + W2 relu(W1 x) in every block; see `AdapterConfig` and `BottleneckPart`.

    Source: Houlsby 2019, arXiv:1902.00751 (`houlsby`); Pfeiffer 2021, arXiv:2005.00247
    (`pfeiffer`); He 2022, arXiv:2110.04366 (`parallel`). As in the papers the adapter lies before
    the sum with the residual and the norm that follows it. Deviations: ReLU in all three; W2 and
    its bias start at zero, not near it, so that a new adapter starts as the base model itself; the
    base's own norms stay frozen (Houlsby trains them), so that a task's set is all that it changes.
    """

    part_names = ("adapter",)

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__(config)
        self.config = config

    def make_part(self, name: str, model: TaughtModel, backbone: PreTrainedModel) -> BottleneckPart:
        """Adapters at the places of the variant."""
        blocks = sublayers_of(backbone, "adapter")
        config = self.config
        return BottleneckPart(blocks, model.dim, config.bottleneck, config.variant, config.scale)
