"""Penalties on weights and on answers."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from ratchet.pipelines.spec.methods.base import Family, MethodConfig, StrengthConfig
from ratchet.pipelines.spec.section import Fraction, StrengthOrAuto


class EwcConfig(StrengthConfig):
    """Elastic weight consolidation: strength / 2 * sum_i F_i (theta_i - anchor_i)^2.

    `decay` 1 keeps one summed anchor over tasks, below 1 is online EWC; `per_task` keeps one anchor
    a task.
    """

    family: ClassVar[Family] = "regularization"
    summary: ClassVar[str] = "holds weights by their Fisher information"
    source: ClassVar[str] = (
        "Kirkpatrick 2017, arXiv:1612.00796; online: Schwarz 2018, arXiv:1805.06370"
    )
    protects: ClassVar[str] = "the weights that old tasks depend on most"
    cost: ClassVar[str] = "one more pass a task; two copies of what trains"
    anchors_weights: ClassVar[bool] = True
    shards: ClassVar[bool] = True
    idle_in_first_task: ClassVar[frozenset[str]] = frozenset(("strength", "decay"))

    type: Literal["ewc"] = "ewc"
    strength: StrengthOrAuto = 1000.0
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    per_task: bool = False
    labels: Literal["sampled", "observed"] = "sampled"
    max_examples: PositiveInt | None = None


class LwfConfig(StrengthConfig):
    """Learning without forgetting: T^2 KL(teacher || student) on new inputs, over old classes."""

    family: ClassVar[Family] = "regularization"
    summary: ClassVar[str] = "keeps the old model's answers on the new inputs"
    source: ClassVar[str] = "Li & Hoiem 2016, arXiv:1606.09282"
    protects: ClassVar[str] = "the old model's answers on inputs like the new ones"
    cost: ClassVar[str] = "a second forward pass a step"
    idle_in_first_task: ClassVar[frozenset[str]] = frozenset(("strength", "temperature"))

    type: Literal["lwf"] = "lwf"
    strength: StrengthOrAuto = 1.0
    temperature: PositiveFloat = 2.0


class SiConfig(StrengthConfig):
    """Synaptic intelligence: strength * sum_i Omega_i (theta_i - anchor_i)^2.

    Omega adds up, task after task, how much each weight's movement lowered the task loss, divided
    by the square of how far it moved plus `damping`.
    """

    family: ClassVar[Family] = "regularization"
    summary: ClassVar[str] = "holds weights by how much they lowered the loss while they moved"
    source: ClassVar[str] = "Zenke 2017, arXiv:1703.04200"
    protects: ClassVar[str] = "the weights that did the learning"
    cost: ClassVar[str] = "no further pass; four copies of what trains, six within a step"
    anchors_weights: ClassVar[bool] = True
    idle_in_first_task: ClassVar[frozenset[str]] = frozenset(("strength",))

    type: Literal["si"] = "si"
    strength: StrengthOrAuto = 0.1
    damping: PositiveFloat = 1e-3


class MasConfig(StrengthConfig):
    """Memory aware synapses: strength / 2 * sum_i Omega_i (theta_i - anchor_i)^2.

    Omega is the mean over examples of |d ||f(x)||^2 / d theta_i|, per example, in eval mode; it
    needs no labels. `decay` as in `ewc`.
    """

    family: ClassVar[Family] = "regularization"
    summary: ClassVar[str] = "holds weights by how strongly they move the outputs; needs no labels"
    source: ClassVar[str] = "Aljundi 2018, arXiv:1711.09601"
    protects: ClassVar[str] = "the weights that the outputs are most sensitive to"
    cost: ClassVar[str] = "one more pass a task; two copies of what trains"
    anchors_weights: ClassVar[bool] = True
    idle_in_first_task: ClassVar[frozenset[str]] = frozenset(("strength", "decay"))

    type: Literal["mas"] = "mas"
    strength: StrengthOrAuto = 1.0
    decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    max_examples: PositiveInt | None = None


class L2SpConfig(StrengthConfig):
    """Starting-point penalty: strength / 2 * ||theta - start||^2.

    `towards: pretrained` holds the backbone near the base model (new heads are free), `last` holds
    everything that trains near its values at the end of the previous task.
    """

    family: ClassVar[Family] = "regularization"
    summary: ClassVar[str] = "holds all weights near the base model, or near the last task's"
    source: ClassVar[str] = "Li 2018, arXiv:1802.01483"
    protects: ClassVar[str] = "the pretrained ability, evenly"
    cost: ClassVar[str] = "one copy of what trains"
    anchors_weights: ClassVar[bool] = True

    type: Literal["l2_sp"] = "l2_sp"
    strength: StrengthOrAuto = 0.01
    towards: Literal["pretrained", "last"] = "pretrained"

    @property
    def holds_first_task(self) -> bool:
        """Towards the base model the first task is held as any other."""
        return self.towards == "pretrained"

    def needless_beside(self, owner: MethodConfig) -> tuple[str, str] | None:
        """A frozen base needs no pull towards itself."""
        if self.towards != "pretrained" or not owner.freezes_base:
            return None
        why = f"{owner.type} freezes the base model's weights, so they stay where they are"
        return why, f"Set towards: last on l2_sp, or remove it or {owner.type}"


class WiseFtConfig(MethodConfig):
    """Weight interpolation: after a task, (1 - strength) * theta + strength * theta before it.

    A task is learned freely, and when it ends the weights go part of the way back to what they were
    before it, in a lineage's first task to the base model: 0 keeps all that was learned, 1 leaves
    the backbone where it was. Heads of new tasks stay as trained. A search for learning rates or
    for other methods' strengths scores a training before the way back. The default is what the
    paper recommends where nothing is known of the data; it was not searched for here.
    """

    family: ClassVar[Family] = "regularization"
    summary: ClassVar[str] = "goes part of the way back to the old weights after each task"
    source: ClassVar[str] = "Wortsman 2022, arXiv:2109.01903"
    protects: ClassVar[str] = "all weights evenly, the pretrained ability with them"
    cost: ClassVar[str] = "nothing a step; one copy of what trains while a task is learned"
    anchors_weights: ClassVar[bool] = True
    shards: ClassVar[bool] = True
    off_at_zero: ClassVar[frozenset[str]] = frozenset(("strength",))

    type: Literal["wise_ft"] = "wise_ft"
    strength: Fraction = 0.5
