# pyright: reportUnknownArgumentType=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""The pass over the data that sums the magnitudes of per-example gradients."""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.importance.measured_modules import Site, find_sites, watched
from ratchet.pipelines.methods.importance.row_by_row import (
    Forward,
    Objective,
    add_row_gradients,
    pull_output,
    push_back,
    rows_of,
)
from ratchet.pipelines.methods.importance.rules import RULES, Magnitude, Rule
from ratchet.pipelines.types import Batch, Output

logger = logging.getLogger(__name__)

Rules = Mapping[type[nn.Module], Rule]
Precision = Callable[[], AbstractContextManager[object]]


@dataclass(frozen=True)
class GradientSums:
    """Sums over examples of the magnitude of each example's gradient.

    Attributes:
        sums: By parameter name, in the parameter's shape, float32.
        num_examples: How many examples were summed; the caller sums both over the workers, then
            divides.
    """

    sums: dict[str, Tensor]
    num_examples: int


def squared_gradients(
    model: nn.Module,
    parameters: Mapping[str, nn.Parameter],
    batches: Iterable[Batch],
    objective: Objective,
    *,
    forward: Forward | None = None,
    autocast: Precision = nullcontext,
    power: Literal[1, 2] = 2,
    rules: Rules = RULES,
) -> GradientSums:
    """Sum the squared gradient of each example: N times the diagonal Fisher for log p(y|x).

    The square is taken per example, not of the mean over a batch, so the result does not depend on
    the batch size. The model is in eval mode during the pass and is left as it was found: modes,
    `requires_grad`, `.grad`, buffers and the global random state.

    Parameters of module types in `rules` cost one forward and one backward pass over the whole
    batch. Every other parameter, one that several modules share, and one whose rule is not
    confirmed by ordinary differentiation on two rows of the first batch, is measured one example at
    a time, and a warning says so.

    Args:
        model: The model, not wrapped for data parallelism.
        parameters: What to measure, by any names.
        batches: The examples. Padding may differ from batch to batch.
        objective: A number for each example, [rows], from the batch and its output alone. It is
            called once a batch and once more for the first one. If it draws labels, let it draw
            from its own generator.
        forward: Gives the output of a batch; `model(batch.inputs)` by default. Rows must not see
            each other.
        autocast: Makes the context of the forward pass, for reduced precision. Sums are float32 in
            any case.
        power: 2 sums squares; 1 sums absolute values (Aljundi 2018, arXiv:1711.09601).
        rules: Gradient rules by exact module type.

    Raises:
        MethodError: The objective has the wrong shape, or a later batch lays out its rows unlike
            the first.
    """
    work = _Pass(
        model=model,
        parameters=parameters,
        objective=objective,
        forward=forward or (lambda batch: model(batch.inputs)),
        autocast=autocast,
        magnitude=Magnitude(power),
        rules=rules,
    )
    with undisturbed(model):
        for batch in batches:
            work.add(batch)
    return GradientSums(work.sums, work.num_examples)


@dataclass
class _Pass:
    """One pass: the running sums, and which way each parameter is measured."""

    model: nn.Module
    parameters: Mapping[str, nn.Parameter]
    objective: Objective
    forward: Forward
    autocast: Precision
    magnitude: Magnitude
    rules: Rules
    num_examples: int = 0

    def __post_init__(self) -> None:
        self.sums = _zeros(self.parameters)
        self._sites: list[Site] | None = None
        self._by_row: dict[str, nn.Parameter] = {}

    def add(self, batch: Batch) -> None:
        """Add the examples of a batch."""
        if len(batch) == 1:  # nothing to gain, and no second row to try the rules on
            pulled = self._through(batch, [], self._cast)
            self._add_rows(batch, pulled, self._cast, dict(self.parameters), self.sums)
        elif len(batch) > 1:
            if self._sites is None:
                self._sites = self._plan(batch)
            pulled = self._through(batch, self._sites, self._cast)
            self._add_rows(batch, pulled, self._cast, self._by_row, self.sums)
            check_layout(self._sites, batch)
        self.num_examples += len(batch)

    def _cast(self, batch: Batch) -> Output:
        with self.autocast(), _attention():
            return self.forward(batch)

    def _through(self, batch: Batch, sites: list[Site], forward: Forward) -> Output:
        """One forward and backward pass over the batch; the sites measure what flows through."""
        for site in sites:
            site.begin(len(batch))
        with torch.enable_grad(), watched(sites):
            output = forward(batch)
        pulled = pull_output(self.objective, batch, output)
        push_back(output, pulled)
        for site in sites:
            site.finish()
        return pulled

    def _add_rows(
        self,
        batch: Batch,
        pulled: Output,
        forward: Forward,
        parameters: Mapping[str, nn.Parameter],
        sums: Mapping[str, Tensor],
    ) -> None:
        if parameters:
            with torch.enable_grad():
                add_row_gradients(batch, pulled, forward, parameters, sums, self.magnitude)

    def _plan(self, batch: Batch) -> list[Site]:
        """Try the rules on two rows, at full precision, against ordinary differentiation."""
        pair = rows_of(batch, [0, len(batch) - 1])
        # The running sums serve as scratch: a model has no room to spare for more copies of itself.
        before = {name: total.clone() for name, total in self.sums.items() if self.num_examples}
        for name in before:
            self.sums[name].zero_()
        sites = self._find(self.parameters)
        known = {
            name: self.parameters[name]
            for name, total in self.sums.items()
            if any(total is mine for site in sites for mine in site.sums.values())
        }
        pulled = self._through(pair, sites, self.forward)
        expected = _zeros(known)
        self._add_rows(pair, pulled, self.forward, known, expected)
        doubted = _disagreeing(self.sums, expected, self.magnitude.power)
        for name, total in self.sums.items():
            total.copy_(before[name]) if before else total.zero_()
        trusted = {name: value for name, value in known.items() if name not in doubted}
        self._by_row = {
            name: value for name, value in self.parameters.items() if name not in trusted
        }
        if self._by_row:
            logger.warning(
                "importance: %d of %d parameters are measured one example at a time (slow): %s",
                len(self._by_row),
                len(self.parameters),
                ", ".join(list(self._by_row)[:5]),
            )
        return self._find(trusted)

    def _find(self, parameters: Mapping[str, nn.Parameter]) -> list[Site]:
        return find_sites(self.model, parameters, self.sums, self.rules, self.magnitude)


def check_layout(sites: Iterable[Site], batch: Batch) -> None:
    """Check that every measured module gave one row an example.

    Raises:
        MethodError: One did not.
    """
    odd = [site.name for site in sites if site.misfit]
    if odd:
        raise MethodError(
            f"importance: {odd[0]} does not give one row for each of {len(batch)} examples, as "
            "in the first batch. Leave its type out of `rules` to measure it by single examples"
        )


def _zeros(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    return {
        name: torch.zeros(parameter.shape, dtype=torch.float32, device=parameter.device)
        for name, parameter in parameters.items()
    }


def _disagreeing(
    found: Mapping[str, Tensor], expected: Mapping[str, Tensor], power: int
) -> set[str]:
    """Names whose sums differ by more than rounding explains.

    Gradients that are zero in exact arithmetic (the key bias of attention) are all rounding: what
    lies far below the largest gradient of the model is let pass.
    """
    largest = max((float(total.max()) for total in expected.values()), default=0.0)
    floor = 1e-5**power * largest
    return {
        name
        for name, total in expected.items()
        if not float((found[name] - total).norm()) <= 1e-2 * float(total.norm()) + floor
    }


def _attention() -> AbstractContextManager[object]:
    """Plain attention in bf16 on a CPU: fused is 2 to 6 times slower to differentiate."""
    is_reduced = torch.is_autocast_enabled("cpu")
    return sdpa_kernel(SDPBackend.MATH) if is_reduced else nullcontext()


@contextmanager
def undisturbed(model: nn.Module) -> Generator[None, None, None]:
    """Eval mode and no gradients of parameters; everything as before at the end."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    devices = {parameter.device for parameter, _ in flags if parameter.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            model.eval()
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield
        finally:
            for module, mode in modes:
                module.training = mode
            for parameter, flag in flags:
                parameter.requires_grad_(flag)
