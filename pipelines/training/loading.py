"""The base model as a worker trains it: on its device, whole or sharded, checkpointed or not."""

from __future__ import annotations

import torch
from transformers import PreTrainedModel

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.load import load_model
from ratchet.pipelines.models.precision import Precision
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.training.sharding import share_out
from ratchet.pipelines.training.workers import AnyWorkers


def load_for_training(
    spec: UpdateSpec, workers: AnyWorkers, device: torch.device, precision: Precision
) -> TaughtModel:
    """Load the base model of a spec; every worker must call it.

    Raises:
        ModelError: It cannot be loaded, sharded or checkpointed.
    """

    def load() -> TaughtModel:
        model = load_model(spec.model)
        if spec.training.gradient_checkpointing:
            compute_activations_again(model)
        return model

    if spec.scaling.sharding == "fsdp" and workers.world_size > 1:
        return share_out(load, workers, device, precision)
    return load().to(device)


def compute_activations_again(model: TaughtModel) -> None:
    """Let each block forget its activations in training and compute them again for its gradient.

    Raises:
        ModelError: The architecture cannot.
    """
    backbone = model.backbone
    assert isinstance(backbone, PreTrainedModel), "no method has changed it yet"
    if not backbone.supports_gradient_checkpointing:
        raise ModelError(
            f"training.gradient_checkpointing: {type(backbone).__name__} cannot compute its "
            "activations again (got true); set it to false for this architecture"
        )
    backbone.activation_checkpointing_enable()
