"""The classifier that is taught: a pretrained encoder, pooled features, heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.full_model import check_full_model
from ratchet.pipelines.models.heads import loss_mask
from ratchet.pipelines.models.pooling import pool, spread_features
from ratchet.pipelines.models.source import model_location
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods import Kind
from ratchet.pipelines.types import Batch, Output


class Classifier(TaughtModel):
    """Encoder, pooling and heads.

    Args:
        backbone: The pretrained encoder.
        tokenizer: Its tokenizer.
        name: The name the spec gave it.
        location: Where it was loaded from, to load the untouched base again.
        pooling: How token states become one vector.
    """

    kind: ClassVar[Kind] = "classifier"

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        location: str,
        pooling: Literal["mean", "cls"] = "mean",
    ) -> None:
        super().__init__(backbone, tokenizer, name, location)
        self.pooling: Literal["mean", "cls"] = pooling

    def forward(self, inputs: Mapping[str, Tensor], features: Tensor | None = None) -> Output:
        """Logits over every class, unmasked, and the features under them.

        Args:
            inputs: `input_ids` and `attention_mask`, each [rows, seq].
            features: Pooled features [rows, dim] when they are known already.
        """
        if features is None:
            features = self.features(inputs)
        with torch.autocast(features.device.type, enabled=False):
            return Output(logits=self.heads(features.float()), features=features)

    def features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """What the heads read, [rows, dim], float32."""
        if self.reads_base_features:
            return self.base_features(inputs)
        hidden = self.backbone(**inputs).last_hidden_state
        return pool(hidden, inputs["attention_mask"], self.pooling)

    @torch.no_grad()
    def base_features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Pooled layers of the untouched base in eval mode, [rows, base_width], float32.

        They choose the task of a request, and `analytic` learns from them. They never change in a
        lineage.
        """
        states = self.base_states(inputs)
        return spread_features(states, inputs["attention_mask"], self.route_layers, self.pooling)

    def restricted(self, output: Output, batch: Batch, task_ids: Sequence[int]) -> Output:
        """The output with the classes closed that do not compete in each row's loss."""
        mask = loss_mask(self.head, task_ids, batch.task_ids)
        if mask is None:
            return output
        return replace(output, logits=output.logits + mask, unmasked=output.logits)

    def row_losses(self, output: Output, batch: Batch) -> Tensor:
        """Cross-entropy of each row, [rows], float32."""
        return functional.cross_entropy(output.logits, batch.targets, reduction="none")

    def log_likelihood(
        self,
        output: Output,
        batch: Batch,
        labels: Literal["sampled", "observed"],
        generator: torch.Generator,
    ) -> Tensor:
        """Log p(y | x) of each row over the classes left open, [rows], float32."""
        log_probabilities = output.logits.log_softmax(dim=-1)
        classes = batch.targets
        if labels == "sampled":
            probabilities = log_probabilities.detach().exp().cpu()
            drawn = torch.multinomial(probabilities, 1, generator=generator)[:, 0]
            classes = drawn.to(batch.targets.device)
        return log_probabilities.gather(1, classes[:, None])[:, 0]

    @property
    def answers_every_task(self) -> bool:
        """Whether one head answers for all tasks."""
        return self.head.layout == "shared"

    def load_base(self) -> PreTrainedModel:
        """The untouched encoder, loaded again."""
        return _load_backbone(self.location)


def load_classifier(name: str, pooling: Literal["mean", "cls"] = "mean") -> Classifier:
    """Load a pretrained encoder as a classifier without heads.

    Args:
        name: A Hub id, a local folder, or the short name of an installed model package.
        pooling: How token states become one vector.

    Raises:
        ModelError: The model cannot be found, needs its own code, is an adapter, or is not an
            encoder with safetensors weights.
    """
    location = model_location(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
        backbone = _load_backbone(location)
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name: {name!r} cannot be loaded from {location}: {error}"
        ) from error
    return Classifier(backbone, tokenizer, name, location, pooling)


def _load_backbone(location: str) -> PreTrainedModel:
    check_full_model(location)
    config: Any = AutoConfig.from_pretrained(location, trust_remote_code=False)
    options = {"add_pooling_layer": False} if config.model_type in _POOLED_TYPES else {}
    return AutoModel.from_pretrained(
        location, use_safetensors=True, trust_remote_code=False, dtype=torch.float32, **options
    )


_POOLED_TYPES = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})
