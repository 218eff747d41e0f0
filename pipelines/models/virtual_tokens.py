"""Trained tokens before the text: as keys and values in every layer, or as input embeddings.

Parameters, their start and their format on disk are PEFT's. What lies between them and the model is
not, because PEFT's wrapper (0.21) fits neither kind of model here: an encoder gives states of the
trained tokens too, which must not be pooled, and has its position embeddings shifted by them; a
decoder wrapped for feature extraction generates without them, and one wrapped for generation
gives other text when a batch is padded on the left. Hooks on the backbone also let a part of
another kind be tied in beside them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from peft import PrefixTuningConfig, PromptLearningConfig, PromptTuningConfig, TaskType
from peft.tuners import PrefixEncoder, PromptEmbedding
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig, PreTrainedModel
from transformers.cache_utils import Cache

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.models.part import SetPart

ENCODERS = frozenset({"bert", "camembert", "electra", "roberta", "xlm-roberta"})
PADDED_POSITIONS = frozenset({"camembert", "roberta", "xlm-roberta"})
"""Encoders whose first position is the one after the padding token's id."""
DECODERS = frozenset({"gemma", "gpt2", "gpt_neox", "llama", "mistral", "qwen2", "qwen3"})
PREFIX_SPREAD = 0.02


def first_position(config: PreTrainedConfig) -> int:
    """The position of a text's first token; those before it are not for text."""
    return int(config.pad_token_id) + 1 if config.model_type in PADDED_POSITIONS else 0


class VirtualTokens(SetPart):
    """Trained tokens that every text token attends to.

    The text keeps its length: what the trained tokens give themselves is cut off. In an encoder the
    text keeps its positions too; in a decoder it moves on by `length`, as in PEFT.

    Args:
        backbone: An encoder or decoder of a known type.
        config: PEFT's settings.

    Attributes:
        config: PEFT's settings, as they are written beside the tensors.
        length: Trained tokens.

    Raises:
        MethodError: The architecture is not known.
    """

    def __init__(self, backbone: PreTrainedModel, config: PromptLearningConfig) -> None:
        super().__init__()
        model_type = backbone.config.model_type
        if model_type not in ENCODERS | DECODERS:
            raise MethodError(
                f"methods: {_word(config)} cannot put trained tokens before the text of a model of "
                f"type {model_type!r}; it knows {', '.join(sorted(ENCODERS | DECODERS))}. "
                "Use lora, which needs linear layers only, or a model of one of these types"
            )
        self.config = config
        self.length = int(config.num_virtual_tokens or 0)
        self.is_encoder = model_type in ENCODERS
        self.first_position = first_position(backbone.config)
        self.max_positions = int(getattr(backbone.config, "max_position_embeddings", 0) or 1 << 30)
        backbone.base_model.register_forward_pre_hook(self._before, with_kwargs=True)
        backbone.base_model.register_forward_hook(self._after, with_kwargs=True)

    def put(self, body: PreTrainedModel, inputs: dict[str, Any], is_first: bool) -> None:
        """Put the trained tokens into the inputs of a forward pass.

        Args:
            body: The model without its output layer.
            inputs: Its keyword arguments, with a mask and positions that count the trained tokens;
                changed in place.
            is_first: Whether the pass begins a text; later ones find the trained tokens in the
                cache.
        """
        raise NotImplementedError

    def tokens(self, rows: int) -> Tensor:
        """The chosen set's numbers, the same for every row, [rows, length, width]."""
        module = cast("PrefixEncoder | PromptEmbedding", self.answering)
        index = torch.arange(self.length, device=module.embedding.weight.device)
        return module.embedding(index[None]).expand(rows, -1, -1)

    def _before(
        self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        if self.answering is None:
            return None
        body = cast("PreTrainedModel", body)
        inputs = dict(kwargs) | ({"input_ids": args[0]} if args else {})
        rows, seq = inputs["input_ids"].shape
        cache = inputs.get("cache")
        held = cache.get_seq_length() if isinstance(cache, Cache) else 0
        mask = inputs.get("attention_mask")
        if mask is None:
            mask = inputs["input_ids"].new_ones(rows, max(0, held - self.length) + seq)
        if not self.is_encoder and self.length + mask.shape[1] > self.max_positions:
            raise MethodError(
                f"methods: {self.length} tokens of {_word(self.config)} and a text of "
                f"{mask.shape[1]} do not fit into the {self.max_positions} positions of the model; "
                "lower training.max_length or the method's length"
            )
        mask = torch.cat([mask.new_ones(rows, self.length), mask], dim=1)
        inputs |= {"attention_mask": mask, "position_ids": self._positions(mask)[:, -seq:]}
        self.put(body, inputs, is_first=held == 0)
        return (), inputs

    def _after(
        self, _body: nn.Module, _args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any
    ) -> Any:
        """Cut off what the trained tokens give, where this pass began a text with embeddings."""
        if self.answering is None:
            return output
        if kwargs.get("use_cache") is False and output.get("cache") is not None:
            output.cache = None  # some hand on the cache of the prefix all the same
        if kwargs.get("inputs_embeds") is not None:
            output.last_hidden_state = output.last_hidden_state[:, self.length :]
            if output.get("hidden_states") is not None:
                output.hidden_states = tuple(s[:, self.length :] for s in output.hidden_states)
        return output

    def _positions(self, mask: Tensor) -> Tensor:
        """Positions of trained tokens and text, [rows, length + seq]; padding may have any."""
        if not self.is_encoder:
            return (mask.cumsum(dim=1) - 1).clamp(min=0)
        text = (mask[:, self.length :].cumsum(dim=1) - 1).clamp(min=0)
        return torch.cat([torch.zeros_like(mask[:, : self.length]), text], 1) + self.first_position


class PrefixPart(VirtualTokens):
    """Trained keys and values in the attention of every layer (PEFT's prefix tuning).

    Args:
        backbone: An encoder or decoder of a known type.
        length: Trained tokens.
        task_type: What PEFT would use the backbone for.

    Raises:
        MethodError: The architecture is not known, or attends through a sliding window.
    """

    def __init__(self, backbone: PreTrainedModel, length: int, task_type: TaskType) -> None:
        settings = backbone.config
        if getattr(settings, "sliding_window", None):
            raise MethodError(
                "methods: a prefix would leave the sliding attention window of "
                f"{settings.sliding_window} tokens of this model; use lora, adapter or prompt"
            )
        heads = getattr(settings, "num_key_value_heads", None) or settings.num_attention_heads
        width = getattr(settings, "head_dim", None) or (
            settings.hidden_size // settings.num_attention_heads
        )
        self.num_layers, self.heads, self.width = settings.num_hidden_layers, heads, width
        config = PrefixTuningConfig(
            task_type=task_type,
            num_virtual_tokens=length,
            num_layers=settings.num_hidden_layers,
            num_attention_heads=heads,
            token_dim=heads * width,
            num_transformer_submodules=1,
        )
        super().__init__(backbone, config)

    def make_set(self) -> nn.Module:
        """Keys and values close to zero."""
        made = PrefixEncoder(self.config)
        nn.init.normal_(made.embedding.weight, std=PREFIX_SPREAD)
        return made

    def put(self, body: PreTrainedModel, inputs: dict[str, Any], is_first: bool) -> None:
        """Fill the cache with the prefix; see `VirtualTokens.put`."""
        if body.training and body.is_activation_checkpointing:
            raise MethodError(
                "training.gradient_checkpointing: true computes each layer twice, and the prefix "
                "would be kept the first time only; set it to false, or use lora or adapter"
            )
        if not is_first:
            return
        rows = len(inputs["input_ids"])
        states = self.tokens(rows).to(_precision(body))
        states = states.view(rows, self.length, 2 * self.num_layers, self.heads, self.width)
        states = states.permute(2, 0, 3, 1, 4)
        cache = inputs.get("cache")
        if cache is None:
            cache = inputs["cache"] = DynamicCache()
        for layer in range(self.num_layers):
            cache.update(states[2 * layer], states[2 * layer + 1], layer)


class PromptPart(VirtualTokens):
    """Trained input embeddings before the text (PEFT's prompt tuning).

    They start as embeddings of tokens drawn from the vocabulary, as Lester 2021 advises.

    Args:
        backbone: An encoder or decoder of a known type.
        length: Trained tokens.
        task_type: What PEFT would use the backbone for.

    Raises:
        MethodError: The architecture is not known.
    """

    def __init__(self, backbone: PreTrainedModel, length: int, task_type: TaskType) -> None:
        words = cast("nn.Embedding", backbone.get_input_embeddings())
        config = PromptTuningConfig(
            task_type=task_type,
            num_virtual_tokens=length,
            num_layers=backbone.config.num_hidden_layers,
            num_attention_heads=backbone.config.num_attention_heads,
            token_dim=words.weight.shape[1],
            num_transformer_submodules=1,
            prompt_tuning_init="SAMPLE_VOCAB",  # type: ignore[arg-type] # PEFT makes it its enum
        )
        super().__init__(backbone, config)
        self._words = [words]  # a list hides it from named_parameters

    def make_set(self) -> nn.Module:
        """Embeddings of tokens drawn from the vocabulary."""
        return PromptEmbedding(self.config, self._words[0])

    def put(self, body: PreTrainedModel, inputs: dict[str, Any], is_first: bool) -> None:
        """Hand over embeddings in the place of token ids; see `VirtualTokens.put`."""
        if not is_first:
            return
        ids = inputs.pop("input_ids")
        text = cast("nn.Embedding", body.get_input_embeddings())(ids)
        tokens = self.tokens(len(ids)).to(text.dtype)
        inputs["inputs_embeds"] = torch.cat([tokens, text], dim=1)
        inputs["position_ids"] = self._positions(inputs["attention_mask"])


def _precision(body: PreTrainedModel) -> torch.dtype:
    """The precision of the keys and values that the model itself makes."""
    device = body.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else body.dtype


def _word(config: PromptLearningConfig) -> str:
    return "prefix" if isinstance(config, PrefixTuningConfig) else "prompt"
