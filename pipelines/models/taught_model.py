"""What every model that is taught shares: a backbone, what methods add to it, and what differs.

Methods of parameter isolation change its structure: `backbone` may become a PEFT model, and `parts`
holds modules of their own that hooks tie into the backbone. Everything else sees `forward`,
`base_features` and the named parameters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Literal, cast

import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.heads import Head
from ratchet.pipelines.models.part import Part
from ratchet.pipelines.models.pooling import spread_layers
from ratchet.pipelines.models.shards import OwnParameters, fill, own_part
from ratchet.pipelines.models.source import weights_hash
from ratchet.pipelines.spec.methods import Kind
from ratchet.pipelines.types import Batch, Output

ADDED = re.compile(r"\.(lora_|prompt_encoder|osf_)")
"""What PEFT adds inside a backbone has one of these in its name."""

TASK_PART = re.compile(r"\.task_(\d{3,})(\.|$)")
"""A component named so shapes the features of that task and of no other."""


class TaughtModel(nn.Module):
    """A pretrained backbone and all that a lineage adds to it.

    Args:
        backbone: The pretrained model.
        tokenizer: Its tokenizer.
        name: The name the spec gave it.
        location: Where it was loaded from, to load the untouched base again.

    Attributes:
        parts: Modules that isolation methods add, by method type; see `Part`.
        heads: What lies on the pooled features; nothing in a language model.
        reads_base_features: Whether the heads read `base_features`.
        backbone_trains: Whether the backbone's own weights may change.
        share_out: Shards a backbone over the workers, where the update does so.
    """

    kind: ClassVar[Kind]

    def __init__(
        self,
        backbone: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        name: str,
        location: str,
    ) -> None:
        super().__init__()
        self.backbone: PreTrainedModel | PeftModel = backbone
        self.parts = nn.ModuleDict()
        self.heads: nn.Module = nn.Identity()
        self.tokenizer = tokenizer
        self.name = name
        self.location = location
        self.dim = int(backbone.config.hidden_size)
        self.num_layers = int(backbone.config.num_hidden_layers)
        self.route_layers = spread_layers(self.num_layers, self.dim)
        self.reads_base_features = False
        self.backbone_trains = True
        self.share_out: Callable[[PreTrainedModel], None] | None = None
        self._own = OwnParameters()
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

    def features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """One vector a row, [rows, dim], float32: what the heads read."""
        raise NotImplementedError

    def base_features(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """Pooled layers of the untouched base in eval mode, [rows, base_width], float32."""
        raise NotImplementedError

    def restricted(self, output: Output, batch: Batch, task_ids: Sequence[int]) -> Output:
        """The output with the answers closed that do not compete in each row's loss.

        Args:
            output: What the model gave for the batch.
            batch: The rows.
            task_ids: Every task taught so far, those of the present stage included.
        """
        return output

    def row_losses(self, output: Output, batch: Batch) -> Tensor:
        """The negative log-likelihood of each row's answer, [rows], float32."""
        raise NotImplementedError

    def log_likelihood(
        self,
        output: Output,
        batch: Batch,
        labels: Literal["sampled", "observed"],
        generator: torch.Generator,
    ) -> Tensor:
        """The log-likelihood of each row's answer, [rows], float32.

        Args:
            output: What the model gave for the batch, restricted.
            batch: The rows.
            labels: Whose answers: drawn from the model itself, or the data's.
            generator: Draws the answers.
        """
        raise NotImplementedError

    def load_base(self) -> PreTrainedModel:
        """The untouched pretrained model, loaded again."""
        raise NotImplementedError

    def _base(self) -> PreTrainedModel | PeftModel:
        """The untouched base: the backbone itself where it never trains, else a frozen copy."""
        if not self.backbone_trains:
            return self.backbone
        if not self._frozen_base:
            base = self.load_base().requires_grad_(False)
            if self.share_out is None:
                nn.Module.to(base, self.device)
            else:
                self.share_out(base)
            self._frozen_base.append(base)
        return self._frozen_base[0]

    def base_states(self, inputs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Every layer's states of the untouched base in eval mode, each [rows, seq, dim]."""
        return self._run_base({**inputs, "output_hidden_states": True}).hidden_states

    def _run_base(self, inputs: Mapping[str, Any]) -> Any:
        """The output of the untouched base in eval mode."""
        base = self._base()
        was_training = base.training
        base.eval()
        try:
            with self._parts_silent(), _adapters_off(base):
                return base(**inputs)
        finally:
            base.train(was_training)

    @contextmanager
    def _parts_silent(self) -> Iterator[None]:
        for part in self.parts.values():
            cast("Part", part).silent = True
        try:
            yield
        finally:
            for part in self.parts.values():
                cast("Part", part).silent = False

    def keep_base(self) -> None:
        """Say that the backbone's own weights will not train, so that no second copy is needed.

        Its dropout still works while what is added to it trains, as it does under PEFT's wrappers.
        """
        self.backbone_trains = False
        self.backbone.requires_grad_(False)

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters that train now, by name; where they are sharded, this worker's parts."""
        return {
            name: self._own.of(name, param)
            for name, param in self.named_parameters()
            if param.requires_grad
        }

    def take_gradients(self) -> None:
        """Move the gradients of sharded parameters to this worker's parts of them."""
        self._own.take_gradients(self)

    @property
    def is_sharded(self) -> bool:
        """Whether each worker holds a part of the backbone only.

        Every forward pass is then made by all workers together, with no rows where one has none.
        """
        return self.share_out is not None

    @property
    def features_are_fixed(self) -> bool:
        """Whether nothing below the heads trains, so that features can be computed once."""
        return not any(
            parameter.requires_grad
            for module in (self.backbone, self.parts)
            for parameter in module.parameters()
        )

    @property
    def answers_every_task(self) -> bool:
        """Whether the model, as it is, also answers for tasks that it was not yet taught."""
        raise NotImplementedError

    @property
    def has_task_adapters(self) -> bool:
        """Whether tasks have adapters or other parts of their own."""
        if isinstance(self.backbone, PeftModel) and any(
            name.startswith("task_") for name in self.backbone.peft_config
        ):
            return True
        return any(TASK_PART.search(name) for name, _ in self.parts.named_modules(prefix="parts"))

    def learned_state(self) -> dict[str, Tensor]:
        """Every tensor that differs from the base: heads, adapters, the backbone if it trains."""
        state = {}
        for name, tensor in self.state_dict().items():
            is_base = name.startswith("backbone.") and not ADDED.search(name)
            if not is_base or self.backbone_trains:
                state[name] = tensor
        return state

    def load_learned_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `learned_state` gave, into a model with the same structure.

        Raises:
            ModelError: A tensor is missing, unknown or of another shape.
        """
        for name, part in self.parts.items():
            prefix = f"parts.{name}."
            names = [key.removeprefix(prefix) for key in state if key.startswith(prefix)]
            cast("Part", part).fit(names)
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
            fill(own[name], tensor)

    def fingerprint(self, task_id: int | None = None) -> str:
        """SHA-256 of every tensor that shapes the features of a task (all tasks where None).

        Parts of other tasks are left out: equal fingerprints prove that features need no second
        look. Of what is sharded each worker hashes its own part.
        """
        digest = hashlib.sha256()
        for name, tensor in self.learned_state().items():
            if name.startswith("heads."):
                continue
            owner = TASK_PART.search(name)
            if task_id is not None and owner is not None and int(owner[1]) != task_id:
                continue
            digest.update(name.encode())
            digest.update(
                own_part(tensor)
                .detach()
                .cpu()
                .contiguous()
                .reshape(-1)
                .view(torch.uint8)
                .numpy()
                .tobytes()
            )
        return digest.hexdigest()


@contextmanager
def _adapters_off(base: PreTrainedModel | PeftModel) -> Iterator[None]:
    """PEFT's adapters silent; afterwards the same parameters train as before, PEFT says all do."""
    if not isinstance(base, PeftModel):
        yield
        return
    trained = [parameter for parameter in base.parameters() if parameter.requires_grad]
    with base.disable_adapter():
        yield
    base.requires_grad_(False)
    for parameter in trained:
        parameter.requires_grad_(True)


def base_hash(model: TaughtModel) -> str:
    """Hash of the base model's weight files, written into every version grown from it."""
    return weights_hash(model.location)
