"""Where attention and feed-forward part lie in the blocks of the architectures that are known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from torch import nn
from transformers import PreTrainedModel

from ratchet.pipelines.errors import MethodError


@dataclass(frozen=True)
class Sublayers:
    """The two sublayers of a block, as the places where their outputs leave them.

    Attributes:
        attention: Gives what is added to the residual after attention, alone or first in a tuple.
        feed_forward: Gives what is added to the residual after the feed-forward part.
        sum: Where the feed-forward part reads the residual itself: the module that adds the two,
            whose second argument is that residual, and so the feed-forward part's input. None
            where `feed_forward` takes its own input as its first argument.
    """

    attention: nn.Module
    feed_forward: nn.Module
    sum: nn.Module | None


@dataclass(frozen=True)
class _Paths:
    blocks: str
    attention: str
    feed_forward: str
    sum: str | None = None


_BERT = _Paths("encoder.layer", "attention.output.dropout", "output.dropout", "output")
_LLAMA = _Paths("layers", "self_attn", "mlp")

_PATHS: Mapping[str, _Paths] = MappingProxyType(
    {
        "bert": _BERT,
        "camembert": _BERT,
        "electra": _BERT,
        "roberta": _BERT,
        "xlm-roberta": _BERT,
        "distilbert": _Paths("transformer.layer", "attention", "ffn"),
        "gemma": _LLAMA,
        "llama": _LLAMA,
        "mistral": _LLAMA,
        "qwen2": _LLAMA,
        "qwen3": _LLAMA,
        "gpt2": _Paths("h", "attn", "mlp"),
        "gpt_neox": _Paths("layers", "attention", "mlp"),
    }
)


def sublayers_of(backbone: PreTrainedModel, wanted_by: str) -> list[Sublayers]:
    """The sublayers of every block, first block first.

    Args:
        backbone: A pretrained encoder or decoder.
        wanted_by: The method that asks, for the message.

    Raises:
        MethodError: The architecture is not one of those that are known.
    """
    paths = _PATHS.get(backbone.config.model_type)
    if paths is None:
        raise MethodError(
            f"methods: {wanted_by} does not know where attention and feed-forward part lie in a "
            f"model of type {backbone.config.model_type!r}; it knows {', '.join(sorted(_PATHS))}. "
            "Use lora, which needs linear layers only, or a model of one of these types"
        )
    body = backbone.base_model
    blocks = body.get_submodule(paths.blocks)
    return [
        Sublayers(
            attention=block.get_submodule(paths.attention),
            feed_forward=block.get_submodule(paths.feed_forward),
            sum=None if paths.sum is None else block.get_submodule(paths.sum),
        )
        for block in blocks.children()
    ]
