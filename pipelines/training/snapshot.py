"""Everything that a training changes, kept to be put back: the next one starts just alike."""

from __future__ import annotations

import torch

from ratchet.pipelines.methods.base import MethodStack, MethodState
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.training.random_state import random_state, set_random_state


class Snapshot:
    """A worker's state at the start of a stage, before its methods begin.

    Weights, the methods' states (anchors, importances, memory), random numbers, which parameters
    train and which modules are in training mode. It holds one further copy of everything learned,
    where it lies, and of the methods' tensors.

    Args:
        model: The model; its structure is that of the stage.
        stack: The methods.
        generator: This rank's random numbers.
    """

    def __init__(self, model: TaughtModel, stack: MethodStack, generator: torch.Generator) -> None:
        self.model = model
        self.stack = stack
        self.generator = generator
        self._weights = {n: t.detach().clone() for n, t in model.learned_state().items()}
        self._methods = {kind: _copied(state) for kind, state in stack.state_dicts().items()}
        self._random = {name: state.clone() for name, state in random_state(generator).items()}
        self._trains = {name: p.requires_grad for name, p in model.named_parameters()}
        self._modes = [(module, module.training) for module in model.modules()]

    def restore(self) -> None:
        """Put everything back; the gradients that a training left are dropped."""
        self.model.load_learned_state(self._weights)
        for name, parameter in self.model.named_parameters():
            parameter.requires_grad_(self._trains[name])
            parameter.grad = None
        for module, mode in self._modes:
            module.training = mode
        states = {kind: _copied(state) for kind, state in self._methods.items()}
        self.stack.load_state_dicts(states)
        set_random_state(self._random, self.generator)


def _copied(state: MethodState) -> MethodState:
    tensors = {name: tensor.detach().clone() for name, tensor in state.tensors.items()}
    return MethodState(tensors, dict(state.values), list(state.rows))
