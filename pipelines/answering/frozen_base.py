"""The untouched base model, one for every version that grew from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ratchet.pipelines.answering.adapter_bank import AdapterBank
from ratchet.pipelines.data.tokens import TokenizedRows, tokenize
from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.models.classifier import Classifier, load_classifier
from ratchet.pipelines.models.pooling import pool, spread_features
from ratchet.pipelines.models.taught_model import base_hash
from ratchet.pipelines.registry.manifest import Manifest

Pooling = Literal["mean", "cls"]


class FrozenBase:
    """A base model in eval mode: its hidden states choose tasks, its bank holds adapters.

    Args:
        name: What the versions call it.
        pooling: How token states become one vector.
        device: Where it computes.
    """

    def __init__(self, name: str, pooling: Pooling, device: torch.device) -> None:
        self.classifier = load_classifier(name, pooling).to(device)
        self.classifier.keep_base()
        self.classifier.eval()
        self.sha256 = base_hash(self.classifier)
        self.bank = AdapterBank(self.classifier.backbone)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.classifier.device

    def view(self) -> Classifier:
        """A classifier over the same backbone, without heads yet; they are a version's own."""
        mine = self.classifier
        view = Classifier(
            mine.backbone,  # type: ignore[arg-type] # the base's own, never PEFT's
            mine.tokenizer,
            mine.name,
            mine.location,
            mine.pooling,
        )
        view.keep_base()
        return view

    def tokens(self, texts: Sequence[str], max_lengths: Sequence[int]) -> TokenizedRows:
        """Texts as tokens, each cut at its own length."""
        rows = tokenize(
            texts, [0] * len(texts), [0] * len(texts), self.classifier.tokenizer, max(max_lengths)
        )
        if len(set(max_lengths)) == 1:
            return rows
        parts = [
            tokenize([text], [0], [0], self.classifier.tokenizer, length)
            for text, length in zip(texts, max_lengths, strict=True)
        ]
        return TokenizedRows.concatenate(parts)

    def hidden_states(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Outputs of the embeddings and of every layer, each [rows, seq, dim]."""
        return self.classifier.backbone(**inputs, output_hidden_states=True).hidden_states

    def route_features(
        self, states: Sequence[Tensor], attention_mask: Tensor, layers: Sequence[int]
    ) -> Tensor:
        """`Classifier.base_features` out of hidden states, [rows, len(layers) * dim], float32."""
        return spread_features(states, attention_mask, layers, self.classifier.pooling)

    def adapted_features(self, inputs: Mapping[str, Tensor], slots: Tensor) -> Tensor:
        """Pooled features, each row through the adapter in its slot, [rows, dim], float32."""
        with self.bank.using(slots):
            hidden = self.classifier.backbone(**inputs).last_hidden_state
        return pool(hidden, inputs["attention_mask"], self.classifier.pooling)


@dataclass(frozen=True)
class _BaseKey:
    name: str
    pooling: Pooling


class BaseShelf:
    """The base models that are loaded, each once.

    Args:
        device: Where they compute.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._bases: dict[_BaseKey, FrozenBase] = {}

    def base_of(self, manifest: Manifest) -> FrozenBase:
        """The base that a version grew from.

        Raises:
            ModelError: It cannot be loaded.
            VersionError: The one found here has other weights.
        """
        named = manifest.base_model
        key = _BaseKey(named["name"], "cls" if named["pooling"] == "cls" else "mean")
        if key not in self._bases:
            self._bases[key] = FrozenBase(key.name, key.pooling, self.device)
        base = self._bases[key]
        if base.sha256 != named["sha256"]:
            raise VersionError(
                f"{manifest.lineage}@{manifest.version} grew from other weights of {key.name!r} "
                "than those found here; install the base model that it was trained on"
            )
        return base


def best_device() -> torch.device:
    """The GPU that this process was given, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
