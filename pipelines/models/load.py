"""The one place that chooses the class of a model by its kind."""

from __future__ import annotations

from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerBase

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.causal_lm import UNLIMITED, load_causal_lm
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.models.source import model_location
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.models.virtual_tokens import first_position
from ratchet.pipelines.registry.manifest import Manifest
from ratchet.pipelines.spec.update_spec import ModelSpec


def load_model(spec: ModelSpec) -> TaughtModel:
    """The base model of a spec, ready to be taught.

    Raises:
        ModelError: The model cannot be found, needs its own code, or is not of the spec's kind.
    """
    if spec.kind == "causal_lm":
        model: TaughtModel = load_causal_lm(spec.name, spec.dtype)
        model.tokenizer = load_tokenizer(spec)
        return model
    return load_classifier(spec.name, spec.pooling)


def load_tokenizer(spec: ModelSpec) -> PreTrainedTokenizerBase:
    """The tokenizer of a spec's model; a language model's can end and pad texts.

    Raises:
        ModelError: It cannot be found, or a language model's has no end-of-sequence token.
    """
    location = model_location(spec.name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(location, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name: the tokenizer of {spec.name!r} cannot be loaded from {location}: {error}"
        ) from error
    if spec.kind == "causal_lm":
        if tokenizer.eos_token_id is None:
            raise ModelError(
                f"model.name: the tokenizer of {spec.name!r} has no end-of-sequence token, and a "
                "language model learns to end its answers with it; set eos_token in the "
                "tokenizer's files"
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def context_of(spec: ModelSpec) -> int:
    """Tokens that a spec's model can read at once, at most: its positions.

    Raises:
        ModelError: The model cannot be found.
    """
    location = model_location(spec.name)
    try:
        config = AutoConfig.from_pretrained(location, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.name: {spec.name!r} cannot be loaded from {location}: {error}"
        ) from error
    positions = int(getattr(config, "max_position_embeddings", None) or UNLIMITED)
    return positions - first_position(config)


def model_spec_of(manifest: Manifest) -> ModelSpec:
    """What the spec said of the base model of a version."""
    base = {key: value for key, value in manifest.base_model.items() if key != "sha256"}
    return ModelSpec.model_validate(base)
