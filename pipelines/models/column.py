"""One column of a progressive network: narrow blocks that read wider and older ones sideways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ratchet.pipelines.errors import MethodError

BASE = "base"
"""The source of the laterals that read the frozen base; the others are earlier columns."""

Watch = Callable[[str, str, Tensor], None]
"""Told the place, the source and the contribution [rows, seq, width of the place] of a lateral."""


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


class Share(nn.Module):
    """An earlier column's answer, times one number that learns."""

    def __init__(self, start: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor([start]))

    def forward(self, answer: Tensor) -> Tensor:
        """[rows, seq, base width] -> the same shape."""
        return self.scale * answer


class Junction(nn.Module):
    """The sum of all laterals into one place; `shift` keeps the mean of those that were pruned.

    Args:
        width: Width of what the laterals add.
        laterals: By what they read.
    """

    def __init__(self, width: int, laterals: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.laterals = nn.ModuleDict(dict(laterals))
        self.shift = nn.Parameter(torch.zeros(width))

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
    last level feed its own answer. Its answer is that and, each times a share that learns, the
    answers of the earlier columns. The map back to the base's width starts at zero and the shares
    at one over their number, so that a new column starts with the mean of what earlier tasks made
    of the base; laterals from earlier columns start at zero and are drawn last.

    Args:
        size: Its shape.
        earlier: Names of the earlier columns that it reads, beside the base.
    """

    def __init__(self, size: ColumnSize, earlier: Sequence[str]) -> None:
        super().__init__()
        self.entry = nn.Linear(size.base_width, size.width)
        self.blocks = nn.ModuleList(ColumnBlock(size) for _ in range(size.num_layers))
        junctions = [_from_base(size) for _ in range(size.num_layers)]
        self.junctions = nn.ModuleList(junctions)
        self.norm = nn.LayerNorm(size.width)
        self.exit = nn.Linear(size.width, size.base_width)
        nn.init.zeros_(self.exit.weight)
        nn.init.zeros_(self.exit.bias)
        shares = {source: Share(1 / len(earlier)) for source in earlier}
        self.answers = Junction(size.base_width, shares)
        for junction in junctions:
            for source in earlier:
                junction.laterals[source] = _silent(size)

    @property
    def places(self) -> dict[str, Junction]:
        """Where it reads sideways, by name: each level, from the lowest, and then its answer."""
        named = self.named_modules()
        return {name: module for name, module in named if isinstance(module, Junction)}

    @property
    def sources(self) -> set[str]:
        """What it still reads, anywhere."""
        return {source for place in self.places.values() for source in place.laterals}

    def levels(
        self,
        embedded: Tensor,
        sources: Mapping[str, Sequence[Tensor]],
        allowed: Tensor,
        watch: Watch | None = None,
    ) -> list[Tensor]:
        """The states of every level, then what is added to the base's answer.

        Later columns read all of them, as this one reads those of its sources.

        Args:
            embedded: The base's embedding of the text, [rows, seq, base width].
            sources: What this returned for each earlier column, and the base's states by level.
            allowed: Which positions each may look at, [rows, 1, seq, seq], bool.
            watch: Told each lateral's contribution.

        Returns:
            The states, each [rows, seq, width], and last the answer, [rows, seq, base width].
        """
        hidden = self.entry(functional.layer_norm(embedded, embedded.shape[-1:]))
        found: list[Tensor] = []
        for level, (block, junction) in enumerate(zip(self.blocks, self.junctions, strict=True)):
            found.append(block(hidden, allowed))
            here = {source: states[level] for source, states in sources.items()}
            hidden = found[-1] + junction(here, _at(watch, f"junctions.{level}"))
        answers = {source: states[-1] for source, states in sources.items()}
        shared = self.answers(answers, _at(watch, "answers"))
        return [*found, self.exit(self.norm(hidden)) + shared]

    def prune(self, place: str, source: str, mean: Tensor) -> None:
        """Take a lateral away; its mean contribution [width of the place] stays."""
        junction = self.places[place]
        with torch.no_grad():
            junction.shift.add_(mean.to(junction.shift))
        del junction.laterals[source]

    def lateral_parameters(self) -> dict[str, int]:
        """Parameters of the laterals from each source, over all levels."""
        counts: dict[str, int] = {}
        for place in self.places.values():
            for source, lateral in place.laterals.items():
                size = sum(parameter.numel() for parameter in lateral.parameters())
                counts[source] = counts.get(source, 0) + size
        return counts


def _from_base(size: ColumnSize) -> Junction:
    return Junction(size.width, {BASE: Lateral(size.base_width, size)})


def _silent(size: ColumnSize) -> Lateral:
    """A lateral from an earlier column that says nothing until `up` has learned."""
    lateral = Lateral(size.width, size)
    nn.init.zeros_(lateral.up.weight)
    return lateral


def _at(watch: Watch | None, place: str) -> Callable[[str, Tensor], None]:
    def told(source: str, contribution: Tensor) -> None:
        if watch is not None:
            watch(place, source, contribution)

    return told
