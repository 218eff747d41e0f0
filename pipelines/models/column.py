"""One column of a progressive network: narrow blocks that read wider and older ones sideways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.errors import MethodError

BASE = "base"
"""The source of the laterals that read the frozen base; the others are earlier columns."""

Watch = Callable[[int, str, Tensor], None]
"""Told the level, the source and the contribution [rows, seq, width] of a lateral."""


@dataclass(frozen=True)
class ColumnSize:
    """The shape of a column.

    Attributes:
        base_width: Width of the base's hidden states.
        width: Width of the column's.
        num_heads: Attention heads of a block.
        inner: Width of a block's feed-forward part.
        lateral_width: Width of the bottleneck of a lateral.
        num_layers: Blocks, as many as the base has.
        dropout: That of the base, on what a block adds.
    """

    base_width: int
    width: int
    num_heads: int
    inner: int
    lateral_width: int
    num_layers: int
    dropout: float


def column_size(config: Any, share: float, lateral_width: int | None) -> ColumnSize:
    """The shape of a column that has a share of the base's heads, each as wide as the base's.

    Args:
        config: The base's configuration.
        share: Share of heads, width and feed-forward width, in (0, 1].
        lateral_width: Width of the laterals, or None for that of the column.

    Raises:
        MethodError: The configuration does not say how many heads and layers there are.
    """
    try:
        base_width, base_heads = int(config.hidden_size), int(config.num_attention_heads)
        num_layers = int(config.num_hidden_layers)
    except (AttributeError, TypeError) as error:
        raise MethodError(
            f"methods.columns: {config.model_type} does not say its hidden size, heads and layers "
            f"({error}); use a BERT-like encoder, a Llama-like decoder, or lora"
        ) from error
    num_heads = max(1, round(base_heads * share))
    width = num_heads * (base_width // base_heads)
    inner = getattr(config, "intermediate_size", None)
    return ColumnSize(
        base_width=base_width,
        width=width,
        num_heads=num_heads,
        inner=max(1, round(inner * width / base_width)) if isinstance(inner, int) else 4 * width,
        lateral_width=lateral_width or width,
        num_layers=num_layers,
        dropout=float(getattr(config, "hidden_dropout_prob", 0.0) or 0.0),
    )


class ColumnBlock(nn.Module):
    """A pre-norm transformer block: attention, then a feed-forward part, each added."""

    def __init__(self, size: ColumnSize) -> None:
        super().__init__()
        self.num_heads = size.num_heads
        self.attention_norm = nn.LayerNorm(size.width)
        self.attention_in = nn.Linear(size.width, 3 * size.width)
        self.attention_out = nn.Linear(size.width, size.width)
        self.inner_norm = nn.LayerNorm(size.width)
        self.inner_in = nn.Linear(size.width, size.inner)
        self.inner_out = nn.Linear(size.inner, size.width)
        self.dropout = nn.Dropout(size.dropout)

    def forward(self, states: Tensor, allowed: Tensor) -> Tensor:
        """[rows, seq, width] -> the same shape.

        Args:
            states: States of the level below, laterals added.
            allowed: Which positions each may look at, [rows, 1, seq, seq], bool.
        """
        states = states + self.dropout(self._attention(self.attention_norm(states), allowed))
        inner = functional.gelu(self.inner_in(self.inner_norm(states)))
        return states + self.dropout(self.inner_out(inner))

    def _attention(self, states: Tensor, allowed: Tensor) -> Tensor:
        rows, length, _ = states.shape
        split = self.attention_in(states).view(rows, length, 3, self.num_heads, -1)
        query, key, value = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        return self.attention_out(mixed.transpose(1, 2).reshape(rows, length, -1))


class Lateral(nn.Module):
    """U gelu(V alpha h): what one older source tells one level of a column.

    Source: Rusu 2016, arXiv:1606.04671. Deviation: h is normalised over its width, as the scale of
    hidden states differs by orders of magnitude between architectures; alpha starts at 1.
    """

    def __init__(self, source_width: int, size: ColumnSize) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.down = nn.Linear(source_width, size.lateral_width)
        self.up = nn.Linear(size.lateral_width, size.width, bias=False)

    def forward(self, states: Tensor) -> Tensor:
        """[rows, seq, source width] -> [rows, seq, width]."""
        scaled = self.scale * functional.layer_norm(states, states.shape[-1:])
        return self.up(functional.gelu(self.down(scaled)))


class Junction(nn.Module):
    """The sum of all laterals into one level; `shift` keeps the mean of those that were pruned."""

    def __init__(self, size: ColumnSize) -> None:
        super().__init__()
        self.laterals = nn.ModuleDict({BASE: Lateral(size.base_width, size)})
        self.shift = nn.Parameter(torch.zeros(size.width))

    def read(self, source: str, size: ColumnSize) -> None:
        """Add a lateral from an earlier column that says nothing until `up` has learned."""
        lateral = Lateral(size.width, size)
        nn.init.zeros_(lateral.up.weight)
        self.laterals[source] = lateral

    def forward(
        self, sources: Mapping[str, Tensor], watch: Callable[[str, Tensor], None]
    ) -> Tensor:
        """What to add to the states of the level, [rows, seq, width] or [width]."""
        total: Tensor = self.shift
        for source, lateral in self.laterals.items():
            contribution = lateral(sources[source])
            watch(source, contribution)
            total = total + contribution
        return total


class Column(nn.Module):
    """The column of one task: h_i = block_i(h_{i-1} + the sum of laterals from level i - 1).

    Level 0 is the base's embedding of the text, mapped to the column's width; the laterals of the
    last level feed the answer. The map back to the base's width starts at zero, so that a new
    column starts as the base itself; laterals from earlier columns start at zero and are drawn
    last, so that before its first step it is the column that it would be without them.

    Args:
        size: Its shape.
        earlier: Names of the earlier columns that it reads, beside the base.
    """

    def __init__(self, size: ColumnSize, earlier: Sequence[str]) -> None:
        super().__init__()
        self.entry = nn.Linear(size.base_width, size.width)
        self.blocks = nn.ModuleList(ColumnBlock(size) for _ in range(size.num_layers))
        junctions = [Junction(size) for _ in range(size.num_layers)]
        self.junctions = nn.ModuleList(junctions)
        self.norm = nn.LayerNorm(size.width)
        self.exit = nn.Linear(size.width, size.base_width)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)
        for junction in junctions:
            for source in earlier:
                junction.read(source, size)

    @property
    def sources(self) -> set[str]:
        """What it still reads, on any level."""
        return {source for junction in self.junctions for source in _laterals(junction)}

    def levels(
        self,
        embedded: Tensor,
        sources: Mapping[str, Sequence[Tensor]],
        allowed: Tensor,
        watch: Watch | None = None,
    ) -> tuple[list[Tensor], Tensor]:
        """The states of every level, which later columns read, and what is added to the answer.

        Args:
            embedded: The base's embedding of the text, [rows, seq, base width].
            sources: States by source and level, each [rows, seq, its width].
            allowed: Which positions each may look at, [rows, 1, seq, seq], bool.
            watch: Told each lateral's contribution.

        Returns:
            The states, each [rows, seq, width], and the answer, [rows, seq, base width].
        """
        hidden = self.entry(functional.layer_norm(embedded, embedded.shape[-1:]))
        found: list[Tensor] = []
        for level, (block, junction) in enumerate(zip(self.blocks, self.junctions, strict=True)):
            found.append(block(hidden, allowed))
            here = {source: states[level] for source, states in sources.items()}
            hidden = found[-1] + junction(here, _at_level(watch, level))
        return found, self.exit(self.norm(hidden))

    def prune(self, level: int, source: str, mean: Tensor) -> None:
        """Take a lateral away; its mean contribution [width] stays."""
        junction = self.junctions[level]
        assert isinstance(junction, Junction), "the constructor made it"
        with torch.no_grad():
            junction.shift.add_(mean.to(junction.shift))
        del junction.laterals[source]

    def lateral_parameters(self) -> dict[str, int]:
        """Parameters of the laterals from each source, over all levels."""
        counts: dict[str, int] = {}
        for junction in self.junctions:
            for source, lateral in _laterals(junction).items():
                size = sum(parameter.numel() for parameter in lateral.parameters())
                counts[source] = counts.get(source, 0) + size
        return counts


def _laterals(junction: nn.Module) -> dict[str, nn.Module]:
    assert isinstance(junction, Junction), "a column has nothing else there"
    return dict(junction.laterals.items())


def _at_level(watch: Watch | None, level: int) -> Callable[[str, Tensor], None]:
    def told(source: str, contribution: Tensor) -> None:
        if watch is not None:
            watch(level, source, contribution)

    return told
