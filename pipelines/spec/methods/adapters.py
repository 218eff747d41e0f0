"""Small trained parts beside or inside a frozen backbone."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ratchet.pipelines.spec.methods.base import Family, MethodConfig, StrengthConfig
from ratchet.pipelines.spec.section import StrengthOrAuto


class _TaskParts(MethodConfig):
    """Parts that are either shared by all tasks or one set a task."""

    family: ClassVar[Family] = "isolation"
    protects: ClassVar[str] = "the base weights; with per_task, old tasks entirely"
    owns_structure: ClassVar[bool] = True
    freezes_base: ClassVar[bool] = True

    per_task: bool = False

    @property
    def isolates_tasks(self) -> bool:
        """Whether each task has parts of its own."""
        return self.per_task


class AdapterConfig(_TaskParts):
    """Bottleneck adapters x + W2 act(W1 x) in every block, near identity at the start.

    `houlsby` after attention and after the feed-forward part, `pfeiffer` after the feed-forward
    part, `parallel` beside it, scaled by `scale`.
    """

    summary: ClassVar[str] = "bottleneck adapters in every block, shared or one set a task"
    source: ClassVar[str] = "Houlsby 2019, arXiv:1902.00751; He 2022, arXiv:2110.04366"
    cost: ClassVar[str] = "2 x hidden x bottleneck parameters an adapter"

    type: Literal["adapter"] = "adapter"
    variant: Literal["houlsby", "pfeiffer", "parallel"] = "pfeiffer"
    bottleneck: PositiveInt = 64
    scale: PositiveFloat = 4.0


class PrefixConfig(_TaskParts):
    """Trained keys and values before the text in the attention of every layer (PEFT's)."""

    summary: ClassVar[str] = "trained key and value prefixes in every layer"
    source: ClassVar[str] = "Li & Liang 2021, arXiv:2101.00190"
    cost: ClassVar[str] = "2 x layers x length x hidden parameters; a longer attention"
    recompute_reason: ClassVar[str] = "a layer that runs again finds no prefix before the text"

    type: Literal["prefix"] = "prefix"
    length: PositiveInt = 30


class PromptConfig(_TaskParts):
    """Trained input embeddings before the text (PEFT's)."""

    summary: ClassVar[str] = "trained input embeddings before the text"
    source: ClassVar[str] = "Lester 2021, arXiv:2104.08691"
    cost: ClassVar[str] = "length x hidden parameters; a longer text"

    type: Literal["prompt"] = "prompt"
    length: PositiveInt = 20


class MamConfig(_TaskParts):
    """Mix-and-match: a short prefix in the attention and a parallel adapter beside the rest."""

    summary: ClassVar[str] = "a prefix in the attention and parallel adapters beside the rest"
    source: ClassVar[str] = "He 2022, arXiv:2110.04366"
    cost: ClassVar[str] = "that of prefix and adapter together"
    recompute_reason: ClassVar[str] = "a layer that runs again finds no prefix before the text"

    type: Literal["mam"] = "mam"
    length: PositiveInt = 30
    bottleneck: PositiveInt = 64
    scale: PositiveFloat = 4.0


class OLoraConfig(StrengthConfig):
    """A new low-rank adapter a task, orthogonal to the old ones, all summed.

    Adds strength * sum_{i<t} ||A_i A_t^T||_1 to the loss; old adapters are frozen.
    """

    family: ClassVar[Family] = "isolation"
    summary: ClassVar[str] = "a low-rank adapter a task, orthogonal to the old ones, all summed"
    source: ClassVar[str] = "Wang 2023, arXiv:2310.14152"
    protects: ClassVar[str] = "the directions that old tasks use, without a task id"
    cost: ClassVar[str] = "an adapter a task, all of them in every forward pass"
    owns_structure: ClassVar[bool] = True
    freezes_base: ClassVar[bool] = True
    renews_weights: ClassVar[bool] = True
    off_at_zero: ClassVar[frozenset[str]] = frozenset()  # without the term it still adds adapters

    type: Literal["o_lora"] = "o_lora"
    rank: PositiveInt = 8
    alpha: PositiveFloat = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    strength: StrengthOrAuto = 0.5


class OsfConfig(MethodConfig):
    """Full fine-tuning in the subspace orthogonal to the top singular directions (PEFT's OSF).

    `keep` is the share of singular directions of each weight that is frozen when a task begins.
    """

    family: ClassVar[Family] = "isolation"
    summary: ClassVar[str] = "full fine-tuning orthogonal to the weights' top singular directions"
    source: ClassVar[str] = "Nayak 2025, arXiv:2504.07097"
    protects: ClassVar[str] = "the strongest directions of every weight matrix"
    cost: ClassVar[str] = "a singular value decomposition of every weight a task"
    owns_structure: ClassVar[bool] = True

    type: Literal["osf"] = "osf"
    keep: Annotated[float, Field(gt=0, lt=1)] = 0.5
