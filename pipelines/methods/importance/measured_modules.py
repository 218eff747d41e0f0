# pyright: reportPrivateUsage=false, reportUnknownArgumentType=false
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""Modules whose parameters are measured: what they are given and what flows back through them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule

from ratchet.pipelines.methods.importance.rules import Magnitude, Rule, rule_of


class Site:
    """One module, its rule, and the running sums of its parameters.

    Args:
        name: The module's name in the model, for messages.
        module: The module.
        rule: Its rule.
        sums: The running sum of each measured parameter, by its name in the module.
        magnitude: What is summed.

    Attributes:
        misfit: Whether the module was seen to give something else than one row an example.
    """

    def __init__(
        self,
        name: str,
        module: nn.Module,
        rule: Rule,
        sums: Mapping[str, Tensor],
        magnitude: Magnitude,
    ) -> None:
        self.name = name
        self.module = module
        self.rule = rule
        self.sums = sums
        self.magnitude = magnitude
        self.rows = 0
        self.misfit = False
        self._waiting = 0
        self._calls: list[tuple[Tensor, Tensor]] = []

    def begin(self, rows: int) -> None:
        """Get ready for a forward pass over so many examples."""
        self.rows = rows
        self._waiting = 0
        self._calls = []

    def watch(
        self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor:
        """Forward hook: keep the input, ask for the output's gradient, start a graph if need be."""
        inputs: Tensor = (args[0] if args else next(iter(kwargs.values()))).detach()
        if output.shape[0] == 1 < self.rows:
            # One row serves all examples (position embeddings): a copy each tells them apart.
            inputs = inputs.expand(self.rows, *inputs.shape[1:])
            output = output.expand(self.rows, *output.shape[1:])
        if output.shape[0] != self.rows:
            self.misfit = True
            return output
        if not output.requires_grad:
            output = output.detach().requires_grad_()
        self._waiting += 1
        output.register_hook(lambda grad: self._receive(inputs, grad))
        return output

    def _receive(self, inputs: Tensor, grad: Tensor) -> None:
        self._calls.append((inputs, grad))
        if len(self._calls) == self._waiting:
            self.finish()

    def finish(self) -> None:
        """Measure the calls that a gradient reached; an output that went unused adds nothing."""
        if self._calls:
            self.rule(self.module, self._calls, self.sums, self.magnitude)
        self._calls = []


@contextmanager
def watched(sites: Iterable[Site]) -> Generator[None, None, None]:
    """Forward hooks on every site, removed at the end."""
    handles = [site.module.register_forward_hook(site.watch, with_kwargs=True) for site in sites]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def find_sites(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    sums: Mapping[str, Any],
    rules: Mapping[type[nn.Module], Rule],
    magnitude: Magnitude,
    make: type[Site] = Site,
) -> list[Site]:
    """The modules of known types that hold given parameters which no other module holds."""
    names = {id(parameter): name for name, parameter in parameters.items()}
    owners = _count_owners(model)
    sites = []
    for module_name, module in model.named_modules():
        rule = rule_of(_type_of(module), rules)
        if rule is None or not _is_plain(module):
            continue
        mine = {
            own: sums[names[id(parameter)]]
            for own, parameter in module.named_parameters(recurse=False)
            if id(parameter) in names and owners[id(parameter)] == 1
        }
        if mine:
            sites.append(make(module_name, module, rule, mine, magnitude))
    return sites


def _type_of(module: nn.Module) -> type[nn.Module]:
    """The module's type before it was sharded: that made it a subclass of the same forward."""
    kind = type(module)
    return kind.__mro__[FSDPModule._orig_cls_mro_index] if issubclass(kind, FSDPModule) else kind


def _count_owners(model: nn.Module) -> dict[int, int]:
    """How many modules hold each parameter, by identity: tied weights have several."""
    owners: dict[int, int] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
    return owners


def _is_plain(module: nn.Module) -> bool:
    """Whether the gradient is the textbook one: no rescaled embedding rows or gradients."""
    if isinstance(module, nn.Embedding):
        return module.max_norm is None and not module.scale_grad_by_freq
    return True
