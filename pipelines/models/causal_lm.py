"""The causal language model that is taught: a pretrained decoder that answers with tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.full_model import check_full_model
from ratchet.pipelines.models.pooling import pool, spread_features
from ratchet.pipelines.models.source import model_location
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods import Kind
from ratchet.pipelines.types import Batch, Output

DTYPES: Mapping[str, torch.dtype] = MappingProxyType(
    {"fp32": torch.float32, "bf16": torch.bfloat16}
)
"""What `ModelSpec.dtype` means."""
UNLIMITED = 1 << 30
"""The context, in tokens, of a model that names no limit."""


class CausalLM(TaughtModel):
    """A decoder with its own output layer; `heads` stays empty.

    Inputs are `input_ids`, `attention_mask` and `completion_mask`, each [rows, seq], int64; the
    last is 1 where a token is learned. Rows are padded on the right; only prompts to be continued
    stand on the right.

    Attributes:
        uses_cache: Whether keys and values are kept while text is generated; a method whose parts
            must see the whole text sets it to False.
    """

    kind: ClassVar[Kind] = "causal_lm"

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        location: str,
    ) -> None:
        super().__init__(backbone, tokenizer, name, location)
        self.dtype = backbone.dtype
        self.context = int(getattr(backbone.config, "max_position_embeddings", None) or UNLIMITED)
        self.uses_cache = True

    def forward(self, inputs: Mapping[str, Tensor], features: Tensor | None = None) -> Output:
        """Logits of the token that follows each token, [rows, seq, vocab], and pooled features.

        Args:
            inputs: `input_ids`, `attention_mask` and `completion_mask`, each [rows, seq].
            features: Must be None: a language model reads every token state, not pooled features.
        """
        assert features is None, "features of a language model are never tabled"
        found = self._run(inputs)
        seq = inputs["input_ids"].shape[1]  # trained prompts before the text give states too
        hidden = found.hidden_states[-1][:, -seq:]
        pooled = pool(hidden, inputs["attention_mask"], "mean")
        return Output(logits=found.logits[:, -seq:].float(), features=pooled)

    def features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """The mean of the last layer's states over the text, [rows, dim], float32."""
        seq = inputs["input_ids"].shape[1]
        hidden = self._run(inputs, logits_to_keep=1).hidden_states[-1][:, -seq:]
        return pool(hidden, inputs["attention_mask"], "mean")

    def _run(self, inputs: Mapping[str, Tensor], **options: Any) -> Any:
        return self.backbone(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            output_hidden_states=True,
            use_cache=False,
            **options,
        )

    @torch.no_grad()
    def base_features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Pooled layers of the untouched base over the prompt, [rows, base_width], float32.

        Only the prompt, because a request has nothing else; where every token is learned (raw
        text), over all of it.
        """
        known: dict[str, Any] = {k: inputs[k] for k in ("input_ids", "attention_mask")}
        states = self.base_states(known | {"use_cache": False, "logits_to_keep": 1})
        return spread_features(states, prompt_mask(inputs), self.route_layers, "mean")

    @torch.no_grad()
    def base_logits(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """As the logits of `forward`, of the untouched base, [rows, seq, vocab], float32."""
        known: dict[str, Any] = {k: inputs[k] for k in ("input_ids", "attention_mask")}
        return self._run_base(known | {"use_cache": False}).logits.float()

    def row_losses(self, output: Output, batch: Batch) -> Tensor:
        """Mean negative log-likelihood over the learned tokens of each row, [rows], float32.

        Deviation from the mean over the tokens of a batch: every row counts once, whatever its
        length, so that shares of a step over workers add up as those of classifiers do. For blocks
        of raw text, all of one length, both are the same.
        """
        found = token_log_likelihoods(output.logits, batch.inputs)
        counts = learned_tokens(batch.inputs).sum(dim=1).clamp(min=1)
        return -found.sum(dim=1) / counts

    def log_likelihood(
        self,
        output: Output,
        batch: Batch,
        labels: Literal["sampled", "observed"],
        generator: torch.Generator,
    ) -> Tensor:
        """Summed log-likelihood of each row's learned tokens, [rows], float32.

        Deviation: `sampled` draws each token from the model after the observed ones before it, not
        after drawn ones: one forward pass serves, as for the classifier.
        """
        targets = None
        if labels == "sampled":
            mask = learned_tokens(batch.inputs)
            chances = output.logits[:, :-1][mask].detach().softmax(dim=-1).cpu()
            drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
            targets = drawn.to(output.logits.device)
        return token_log_likelihoods(output.logits, batch.inputs, targets).sum(dim=1)

    @property
    def features_are_fixed(self) -> bool:
        """Never: the loss reads the states of all tokens, which no table of pooled ones holds."""
        return False

    @property
    def answers_every_task(self) -> bool:
        """Whether tasks not yet taught can be measured: not where each has its own parts."""
        return not self.has_task_adapters

    @torch.no_grad()
    def generate(
        self, prompts: Sequence[Tensor], max_new_tokens: int, **sampling: Any
    ) -> list[Tensor]:
        """Continue prompts, greedily unless told otherwise.

        Args:
            prompts: Token ids of each, [tokens].
            max_new_tokens: At most so many, fewer where the context ends.
            sampling: Settings of `GenerationConfig`, such as `do_sample` and `top_k`; drawn tokens
                come from torch's global random numbers.

        Returns:
            The new token ids of each prompt, up to the end of the text, [tokens] int64.
        """
        # A prompt's room must not depend on its company: padding to a longer one would shorten it.
        widths = [max(len(prompt), self.context - max_new_tokens) for prompt in prompts]
        found: dict[int, Tensor] = {}
        for width in sorted(set(widths)):
            places = [place for place, own in enumerate(widths) if own == width]
            room = max(1, self.context - width)
            tokens = self._generated([prompts[place] for place in places], room, sampling)
            found.update(zip(places, tokens, strict=True))
        return [found[place] for place in range(len(prompts))]

    def _generated(
        self, prompts: Sequence[Tensor], max_new_tokens: int, sampling: Mapping[str, Any]
    ) -> list[Tensor]:
        """The new tokens of prompts that all have the same room."""
        width = max(len(prompt) for prompt in prompts)
        end = cast("int", self.tokenizer.eos_token_id)
        pads = [width - len(prompt) for prompt in prompts]
        # Left padding: what is generated must follow the prompt's last token directly.
        ids = [functional.pad(p.long(), (pad, 0)) for p, pad in zip(prompts, pads, strict=True)]
        mask = torch.arange(width) >= torch.tensor(pads)[:, None]
        settings = {"do_sample": False, "num_beams": 1, **sampling}
        found = self.backbone.generate(  # pyright: ignore[reportCallIssue] - a mixin's method
            input_ids=torch.stack(ids).to(self.device),
            attention_mask=mask.long().to(self.device),
            generation_config=GenerationConfig(
                max_new_tokens=max_new_tokens,
                pad_token_id=end,
                eos_token_id=end,
                use_cache=self.uses_cache,
                **settings,
            ),
        )
        return [_up_to(row[width:], end) for row in found.cpu()]

    def load_base(self) -> PreTrainedModel:
        """The untouched decoder, loaded again."""
        return _load_decoder(self.location, self.dtype)


def _up_to(tokens: Tensor, end: int) -> Tensor:
    """The tokens before the first end of the text."""
    ends = (tokens == end).nonzero()
    return tokens[: int(ends[0])] if len(ends) else tokens


def learned_tokens(inputs: Mapping[str, Tensor]) -> Tensor:
    """Where the next token is learned, [rows, seq - 1], bool: column i concerns token i + 1."""
    return inputs["completion_mask"][:, 1:].bool()


def prompt_mask(inputs: Mapping[str, Tensor]) -> Tensor:
    """1 on what is given and not learned, [rows, seq]; on all of a row that has no such token."""
    given = inputs["attention_mask"] * (1 - inputs["completion_mask"])
    return torch.where(given.sum(dim=1, keepdim=True) > 0, given, inputs["attention_mask"])


def token_log_likelihoods(
    logits: Tensor, inputs: Mapping[str, Tensor], targets: Tensor | None = None
) -> Tensor:
    """The log-likelihood of each learned token, [rows, seq - 1], 0 at all others.

    Args:
        logits: [rows, seq, vocab], float32.
        inputs: Of the same rows.
        targets: Other tokens in place of the learned ones, [learned tokens], row after row.
    """
    mask = learned_tokens(inputs)
    if targets is None:
        targets = inputs["input_ids"][:, 1:][mask]
    chosen = functional.cross_entropy(logits[:, :-1][mask], targets, reduction="none")
    return torch.zeros(mask.shape, device=logits.device).masked_scatter(mask, -chosen)


def load_causal_lm(name: str, dtype: Literal["fp32", "bf16"] = "fp32") -> CausalLM:
    """Load a pretrained decoder.

    Args:
        name: A Hub id, a local folder, or the short name of an installed model package.
        dtype: What the weights are held in.

    Raises:
        ModelError: The model cannot be found, needs its own code, is an adapter, is not a decoder
            with its output layer in safetensors weights, or its tokenizer cannot end a text.
    """
    location = model_location(name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
        backbone = _load_decoder(location, DTYPES[dtype])
    except ModelError:
        raise
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name: {name!r} cannot be loaded as a causal language model from {location}: "
            f"{error}"
        ) from error
    return CausalLM(backbone, tokenizer, name, location)


def _load_decoder(location: str, dtype: torch.dtype) -> PreTrainedModel:
    check_full_model(location)
    found: Any = AutoModelForCausalLM.from_pretrained(
        location,
        use_safetensors=True,
        trust_remote_code=False,
        dtype=dtype,
        output_loading_info=True,
    )
    backbone, loading = found
    missing = sorted(loading["missing_keys"])
    if missing or not _is_causal(backbone):
        what = f"its weights lack {missing[0]}" if missing else "its tokens see those after them"
        raise ModelError(
            f"model.name: {location} is not a causal language model: {what}; "
            "name a decoder with its output layer, or set model.kind: classifier"
        )
    return backbone


@torch.no_grad()
def _is_causal(backbone: PreTrainedModel) -> bool:
    """Whether what follows a token leaves its logits alone, tried on two texts of two tokens."""
    was_training = backbone.training
    ids = torch.tensor([[1, 1], [1, 2]])
    one, other = backbone.eval()(input_ids=ids, use_cache=False).logits[:, 0].float()
    backbone.train(was_training)
    return bool(torch.allclose(one, other, rtol=1e-3, atol=1e-3))
