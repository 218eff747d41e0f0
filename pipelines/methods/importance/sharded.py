# pyright: reportUnnecessaryComparison=false
"""The pass over the data where each worker holds but a part of every large parameter.

The sums of a layer are made whole for a moment, in the layer's turn of the backward pass, and go at
once to the workers that hold its parts, so that no worker ever holds the sums of the whole model.
"""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, Partial

from ratchet.pipelines.methods.importance.engine import Precision, check_layout, undisturbed
from ratchet.pipelines.methods.importance.measured_modules import Site, find_sites, watched
from ratchet.pipelines.methods.importance.row_by_row import (
    Objective,
    pull_output,
    push_back,
    rows_of,
)
from ratchet.pipelines.methods.importance.rules import RULES, Magnitude, Rule
from ratchet.pipelines.models.shards import is_sharded, own_part
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.types import Batch, Output, Workers

logger = logging.getLogger(__name__)

DOUBT = 1e-2
DOUBT_BF16 = 5e-2
"""How far a rule may be from ordinary differentiation, relative, where both round to bf16."""


class PartSum:
    """The running sum of one parameter: this worker's part of it, or its share where it is whole.

    Args:
        parameter: The parameter, as the model has it.
    """

    def __init__(self, parameter: nn.Parameter) -> None:
        self.parameter = parameter
        self.part = torch.zeros_like(own_part(parameter.detach()), dtype=torch.float32)

    def scratch(self) -> Tensor:
        """Zeros in the shape of the whole parameter."""
        return torch.zeros(self.parameter.shape, dtype=torch.float32, device=self.part.device)

    @torch.no_grad()
    def add(self, total: Tensor) -> None:
        """Add every worker's sums [*parameter]; where it is sharded, all add at the same time."""
        if isinstance(self.parameter, DTensor):
            mesh = self.parameter.device_mesh
            sums = DTensor.from_local(total, mesh, [Partial()], run_check=False)
            total = sums.redistribute(mesh, self.parameter.placements).to_local()
        self.part += total


class PartSite(Site):
    """A module whose sums go to the workers that hold its parts."""

    sums: Mapping[str, Any]

    def finish(self) -> None:
        """Measure the calls that a gradient reached, and hand the sums on."""
        if self._calls:
            scratch = {name: total.scratch() for name, total in self.sums.items()}
            self.rule(self.module, self._calls, scratch, self.magnitude)
            for name, total in scratch.items():
                self.sums[name].add(total)
        self._calls = []


@dataclass
class ShardedPass:
    """One pass of all workers together; every one gives equally many batches, maybe empty ones.

    Attributes:
        model: The sharded model.
        workers: The worker group.
        objective: A number for each example, [rows].
        autocast: Precision of the forward pass.
        magnitude: What is summed.
        sums: The running sums, by parameter name.
        num_examples: How many examples this worker gave.
    """

    model: TaughtModel
    workers: Workers
    objective: Objective
    autocast: Precision
    magnitude: Magnitude
    rules: Mapping[type[nn.Module], Rule] = field(default_factory=lambda: RULES)
    num_examples: int = 0

    def __post_init__(self) -> None:
        self.parameters = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.sums = _part_sums(self.parameters)
        self._sites: list[Site] | None = None
        self._by_row: set[str] = set()

    def run(self, batches: Iterable[Batch]) -> dict[str, Tensor]:
        """Sum over all examples of all workers; this worker's parts, by parameter name."""
        with undisturbed(self.model):
            for batch in batches:
                if self._sites is None:
                    self._sites = self._plan(batch)
                pulled = self._through(batch, self._sites)
                if self._by_row:
                    self._differentiate(batch, pulled, self.sums, self._by_row)
                check_layout(self._sites, batch)
                self.num_examples += len(batch)
        self._add_whole(self.sums)
        return {name: total.part for name, total in self.sums.items()}

    def _through(self, batch: Batch, sites: list[Site]) -> Output:
        """One forward and backward pass; a worker without rows sends one that weighs nothing."""
        for site in sites:
            site.begin(max(1, len(batch)))
        with torch.enable_grad(), watched(sites):
            output = self._forward(batch)
        pulled = pull_output(self.objective, batch, output) if len(batch) else _nothing(output)
        push_back(output, pulled)
        for site in sites:
            site.finish()
        return pulled

    def _forward(self, batch: Batch) -> Output:
        inputs = batch.inputs
        if len(batch) == 0:
            inputs = {name: value.new_ones(1, *value.shape[1:]) for name, value in inputs.items()}
        with self.autocast():
            return self.model(inputs)

    def _differentiate(
        self, batch: Batch, pulled: Output, sums: Mapping[str, PartSum], names: set[str]
    ) -> None:
        """Add the magnitudes of single examples' gradients, by ordinary differentiation.

        Backward sums gradients over the workers, so in each turn one worker's example counts and
        the others' weigh nothing.
        """
        for rank, num_rows in enumerate(self.workers.gather(len(batch))):
            for row in range(num_rows):
                is_mine = rank == self.workers.rank
                piece = rows_of(batch, [row] if is_mine else [0] if len(batch) else [])
                with torch.enable_grad(), _trained(self.parameters, names):
                    output = self._forward(piece)
                    weights = _nothing(output)
                    if is_mine:
                        own = slice(row, row + 1)
                        weights = Output(pulled.logits[own], pulled.features[own])
                    push_back(output, weights)
                self._collect(sums, names)

    def _collect(self, sums: Mapping[str, PartSum], names: set[str]) -> None:
        for name in names:
            gradient = self.parameters[name].grad
            if gradient is not None:
                sums[name].part += self.magnitude.of(own_part(gradient))
                self.parameters[name].grad = None

    def _plan(self, batch: Batch) -> list[Site]:
        """Try the rules on two rows of each worker, against ordinary differentiation."""
        ends = sorted({0, len(batch) - 1}) if len(batch) else []
        pair = rows_of(batch, ends)
        found, expected = _part_sums(self.parameters), _part_sums(self.parameters)
        sites = self._find(found, set(self.parameters))
        known = {
            name
            for name, total in found.items()
            if any(total is mine for site in sites for mine in site.sums.values())
        }
        pulled = self._through(pair, sites)
        self._differentiate(pair, pulled, expected, known)
        misfits = {site.name for site in sites if site.misfit}
        trusted = known - self._doubted(found, expected, known)
        self._by_row = set(self.parameters) - trusted
        if self._by_row:
            logger.warning(
                "importance: %d of %d parameters are measured one example at a time (slow): %s",
                len(self._by_row),
                len(self.parameters),
                ", ".join(sorted(self._by_row)[:5]),
            )
        return [s for s in self._find(self.sums, trusted) if s.name not in misfits]

    def _find(self, sums: Mapping[str, PartSum], names: set[str]) -> list[Site]:
        wanted = {name: self.parameters[name] for name in self.parameters if name in names}
        return find_sites(self.model, wanted, sums, self.rules, self.magnitude, PartSite)

    def _doubted(
        self, found: Mapping[str, PartSum], expected: Mapping[str, PartSum], known: set[str]
    ) -> set[str]:
        """Names whose sums differ by more than rounding explains; the same on every worker."""
        self._add_whole(found)
        self._add_whole(expected)
        names = sorted(known)
        measured = torch.zeros(3, len(names), device=self.model.device)
        for place, name in enumerate(names):
            one, other = found[name].part, expected[name].part
            share = 1.0 if is_sharded(self.parameters[name]) else 1 / self.workers.world_size
            measured[0, place] = (one - other).square().sum() * share
            measured[1, place] = other.square().sum() * share
            measured[2, place] = other.max() if other.numel() else 0.0
        largest = max(self.workers.gather(float(measured[2].max()) if names else 0.0))
        self.workers.sum([measured])
        apart, total = measured[:2].sqrt()
        doubt = DOUBT_BF16 if torch.is_autocast_enabled(self.model.device.type) else DOUBT
        floor = 1e-5**self.magnitude.power * largest
        fits = apart <= doubt * total + floor
        return {name for name, fit in zip(names, fits.tolist(), strict=True) if not fit}

    def _add_whole(self, sums: Mapping[str, PartSum]) -> None:
        """Sum over the workers what each has whole; what is sharded was summed as it came."""
        kept = [name for name, p in self.parameters.items() if not is_sharded(p)]
        if kept:
            self.workers.sum([sums[name].part for name in kept])


def _part_sums(parameters: Mapping[str, nn.Parameter]) -> dict[str, PartSum]:
    return {name: PartSum(parameter) for name, parameter in parameters.items()}


def _nothing(output: Output) -> Output:
    return Output(torch.zeros_like(output.logits), torch.zeros_like(output.features))


@contextmanager
def _trained(
    parameters: Mapping[str, nn.Parameter], names: set[str]
) -> Generator[None, None, None]:
    for name in names:
        parameters[name].requires_grad_(True)
    try:
        yield
    finally:
        for name in names:
            parameters[name].requires_grad_(False)
