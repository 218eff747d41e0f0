"""Pseudo-rehearsal: what old tasks looked like is made up, not remembered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from ratchet.pipelines.methods.base import Method, MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.feature_rehearsal import FeatureRehearsal
from ratchet.pipelines.methods.text_rehearsal import TextRehearsal
from ratchet.pipelines.spec.methods import Kind
from ratchet.pipelines.spec.methods.replay import GenerativeConfig
from ratchet.pipelines.types import Batch, Output


class Generative(Method):
    """Imitates text with a language model and features with a classifier; see the two forms.

    Source: Sun 2020 (LAMOL), arXiv:1909.03329.
    """

    def __init__(self, config: GenerativeConfig) -> None:
        self.forms: Mapping[Kind, Method] = {
            "classifier": FeatureRehearsal(config),
            "causal_lm": TextRehearsal(config),
        }

    def begin_task(self, ctx: TaskContext) -> None:
        """As the form for the model does."""
        self.forms[ctx.model.kind].begin_task(ctx)

    def extend_batch(self, ctx: TaskContext, batch: Batch) -> Batch:
        """As the form for the model does."""
        return self.forms[ctx.model.kind].extend_batch(ctx, batch)

    def loss(self, ctx: TaskContext, batch: Batch, output: Output) -> Tensor | None:
        """As the form for the model does."""
        return self.forms[ctx.model.kind].loss(ctx, batch, output)

    def end_task(self, ctx: TaskContext) -> None:
        """As the form for the model does."""
        self.forms[ctx.model.kind].end_task(ctx)

    def state_dict(self) -> MethodState:
        """What both forms know; one of them always knows nothing."""
        features, texts = (form.state_dict() for form in self.forms.values())
        values = {"classifier": features.values, "causal_lm": texts.values}
        return MethodState(features.tensors, values, texts.rows)

    def load_state_dict(self, state: MethodState) -> None:
        """Put it back."""
        for kind, form in self.forms.items():
            form.load_state_dict(MethodState(state.tensors, state.values[kind], state.rows))

    def merge_states(self, states: Sequence[MethodState]) -> MethodState:
        """What one worker knows: between tasks all know the same, and no text is left."""
        return states[0]
