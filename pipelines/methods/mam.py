"""Mix-and-match adapters: a prefix in the attention, parallel adapters beside the rest."""

from __future__ import annotations

from transformers import PreTrainedModel

from ratchet.pipelines.methods.task_parts import TaskParts, peft_task_type
from ratchet.pipelines.models.bottleneck import BottleneckPart
from ratchet.pipelines.models.part import SetPart
from ratchet.pipelines.models.sublayers import sublayers_of
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.models.virtual_tokens import PrefixPart
from ratchet.pipelines.spec.methods.adapters import MamConfig

PREFIX, ADAPTER = "mam_prefix", "mam_adapter"


class Mam(TaskParts):
    """Trained keys and values in every layer, and scaled adapters beside the feed-forward part.

    Source: He 2022, arXiv:2110.04366; see `Prefix` and `Adapter` for the deviations of the two.
    The paper gives most parameters to the adapters; the defaults (30 and 64) are its own.
    """

    part_names = (ADAPTER, PREFIX)

    def __init__(self, config: MamConfig) -> None:
        super().__init__(config)
        self.config = config

    def make_part(self, name: str, model: TaughtModel, backbone: PreTrainedModel) -> SetPart:
        """The adapters or the prefix."""
        config = self.config
        if name == PREFIX:
            return PrefixPart(backbone, config.length, peft_task_type(model))
        blocks = sublayers_of(backbone, "mam")
        return BottleneckPart(blocks, model.dim, config.bottleneck, "parallel", config.scale)
