"""The classifier that is taught: a pretrained encoder, pooled features, heads.

Methods of parameter isolation change its structure (`backbone` may become a PEFT model, `heads` a
ridge head); everything else sees only `forward`, `base_features` and the named parameters.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from pipelines.errors import ModelError
from pipelines.models.heads import Head
from pipelines.models.pooling import pool, spread_features, spread_layers
from pipelines.models.source import model_location, weights_hash
from pipelines.types import Output


class Classifier(nn.Module):
    """Encoder, pooling and heads.

    Args:
        backbone: The pretrained encoder.
        tokenizer: Its tokenizer.
        name: The name the spec gave it.
        location: Where it was loaded from, to load the untouched base again.
        pooling: How token states become one vector.
    """

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        location: str,
        pooling: Literal["mean", "cls"] = "mean",
    ) -> None:
        super().__init__()
        self.backbone: PreTrainedModel | PeftModel = backbone
        self.heads: nn.Module = nn.Identity()
        self.tokenizer = tokenizer
        self.name = name
        self.location = location
        self.pooling: Literal["mean", "cls"] = pooling
        self.dim = int(backbone.config.hidden_size)
        self.num_layers = int(backbone.config.num_hidden_layers)
        self.route_layers = spread_layers(self.num_layers, self.dim)
        self.reads_base_features = False
        self.backbone_trains = True
        self._frozen_base: list[PreTrainedModel] = []  # a list hides it from named_parameters

    @property
    def head(self) -> Head:
        """The heads under their protocol."""
        return cast("Head", self.heads)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters lie."""
        return next(self.backbone.parameters()).device

    @property
    def base_width(self) -> int:
        """Width of `base_features`."""
        return len(self.route_layers) * self.dim

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
        base = self._base()
        was_training = base.training
        base.eval()
        try:
            if isinstance(base, PeftModel):
                with base.disable_adapter():
                    states = base(**inputs, output_hidden_states=True).hidden_states
            else:
                states = base(**inputs, output_hidden_states=True).hidden_states
        finally:
            base.train(was_training)
        return spread_features(states, inputs["attention_mask"], self.route_layers, self.pooling)

    def _base(self) -> PreTrainedModel | PeftModel:
        if not self.backbone_trains:
            return self.backbone
        if not self._frozen_base:
            base = _load_backbone(self.location).requires_grad_(False)
            nn.Module.to(base, self.device)
            self._frozen_base.append(base)
        return self._frozen_base[0]

    def keep_base(self) -> None:
        """Say that the backbone's own weights will not train, so that no second copy is needed."""
        self.backbone_trains = False
        self.backbone.requires_grad_(False)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that train now, by name."""
        return {name: param for name, param in self.named_parameters() if param.requires_grad}

    @property
    def features_are_fixed(self) -> bool:
        """Whether nothing below the heads trains, so that features can be computed once."""
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    @property
    def has_task_adapters(self) -> bool:
        """Whether tasks have adapters of their own."""
        return isinstance(self.backbone, PeftModel) and any(
            name.startswith("task_") for name in self.backbone.peft_config
        )

    def learned_state(self) -> dict[str, Tensor]:
        """Every tensor that differs from the base: heads, adapters, the backbone if it trains."""
        state = {}
        for name, tensor in self.state_dict().items():
            is_base = name.startswith("backbone.") and ".lora_" not in name
            if not is_base or self.backbone_trains:
                state[name] = tensor
        return state

    def load_learned_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `learned_state` gave, into a model with the same structure.

        Raises:
            ModelError: A tensor is missing, unknown or of another shape.
        """
        own = self.state_dict()
        expected = self.learned_state().keys()
        if expected != state.keys():
            odd = sorted(expected ^ state.keys())[:5]
            raise ModelError(f"learned weights do not fit the model's structure: {', '.join(odd)}")
        for name, tensor in state.items():
            if own[name].shape != tensor.shape:
                raise ModelError(
                    f"{name} has shape {list(tensor.shape)}, "
                    f"and the model has {list(own[name].shape)}"
                )
            with torch.no_grad():
                own[name].copy_(tensor)

    def fingerprint(self, task_id: int | None = None) -> str:
        """SHA-256 of every tensor that shapes the features of a task (all tasks where None).

        Adapters of other tasks are left out: equal fingerprints prove that features need no second
        look.
        """
        digest = hashlib.sha256()
        adapter = None if task_id is None else f".task_{task_id:03d}."
        for name, tensor in self.learned_state().items():
            if not name.startswith("backbone."):
                continue
            of_adapter = ".lora_" in name and ".task_" in name
            if adapter is not None and of_adapter and adapter not in name:
                continue
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def load_classifier(name: str, pooling: Literal["mean", "cls"] = "mean") -> Classifier:
    """Load a pretrained encoder as a classifier without heads.

    Args:
        name: A Hub id, a local folder, or the short name of an installed model package.
        pooling: How token states become one vector.

    Raises:
        ModelError: The model cannot be found, needs its own code, or is not an encoder with
            safetensors weights.
    """
    location = model_location(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
        backbone = _load_backbone(location)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name: {name!r} cannot be loaded from {location}: {error}"
        ) from error
    return Classifier(backbone, tokenizer, name, location, pooling)


def _load_backbone(location: str) -> PreTrainedModel:
    config: Any = AutoConfig.from_pretrained(location, trust_remote_code=False)
    options = {"add_pooling_layer": False} if config.model_type in _POOLED_TYPES else {}
    return AutoModel.from_pretrained(
        location, use_safetensors=True, trust_remote_code=False, dtype=torch.float32, **options
    )


_POOLED_TYPES = frozenset({"bert", "roberta", "xlm-roberta", "camembert", "electra"})


def base_hash(model: Classifier) -> str:
    """Hash of the base model's weight files, written into every version grown from it."""
    return weights_hash(model.location)
