"""Bottleneck adapters in every block of a backbone."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from ratchet.pipelines.models.part import SetPart
from ratchet.pipelines.models.sublayers import Sublayers

Variant = Literal["houlsby", "pfeiffer", "parallel"]


class Bottleneck(nn.Module):
    """W2 relu(W1 x), zero at the start because W2 is.

    Args:
        dim: Width of x.
        bottleneck: Width between the two.
    """

    def __init__(self, dim: int, bottleneck: int) -> None:
        super().__init__()
        self.down = nn.Linear(dim, bottleneck)
        self.up = nn.Linear(bottleneck, dim)
        nn.init.zeros_(self.up.weight)
        nn.init.zeros_(self.up.bias)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., dim], in the precision of x."""
        hidden = functional.relu(self.down(x.to(self.down.weight.dtype)))
        return self.up(hidden).to(x.dtype)


class BottleneckPart(SetPart):
    """Adapters tied to the sublayers of every block.

    Where a sublayer gives h, to be added to the residual, `houlsby` makes it h + W2 relu(W1 h)
    after attention and after the feed-forward part, `pfeiffer` after the feed-forward part alone;
    `parallel` adds scale * W2 relu(W1 x) to the feed-forward part's output, x being its input.

    Args:
        blocks: The sublayers of every block.
        dim: Width of the model.
        bottleneck: Width of an adapter.
        variant: Where the adapters lie.
        scale: Of what the parallel ones add.
    """

    def __init__(
        self, blocks: list[Sublayers], dim: int, bottleneck: int, variant: Variant, scale: float
    ) -> None:
        super().__init__()
        self.dim, self.bottleneck, self.scale = dim, bottleneck, scale
        self.places: list[str] = []
        for index, block in enumerate(blocks):
            if variant == "parallel":
                self._tie_beside(f"block_{index:02d}_beside", block)
                continue
            if variant == "houlsby":
                self._tie_after(f"block_{index:02d}_attention", block.attention)
            self._tie_after(f"block_{index:02d}_feed_forward", block.feed_forward)

    def make_set(self) -> nn.Module:
        """An adapter a place."""
        made = {place: Bottleneck(self.dim, self.bottleneck) for place in self.places}
        return nn.ModuleDict(made)

    def _tie_after(self, place: str, module: nn.Module) -> None:
        self.places.append(place)
        module.register_forward_hook(partial(self._after, place))

    def _tie_beside(self, place: str, block: Sublayers) -> None:
        self.places.append(place)
        if block.sum is None:
            block.feed_forward.register_forward_hook(partial(self._beside, place))
        else:
            block.sum.register_forward_pre_hook(partial(self._into_sum, place))

    def _adapter(self, place: str) -> nn.Module | None:
        chosen = self.answering
        return None if chosen is None else chosen.get_submodule(place)

    def _after(self, place: str, _module: nn.Module, _args: Any, output: Any) -> Any:
        adapter = self._adapter(place)
        if adapter is None:
            return output
        if isinstance(output, tuple):
            return (output[0] + adapter(output[0]), *output[1:])
        return output + adapter(output)

    def _beside(self, place: str, _module: nn.Module, args: Any, output: Tensor) -> Tensor:
        adapter = self._adapter(place)
        return output if adapter is None else output + self.scale * adapter(args[0])

    def _into_sum(self, place: str, _module: nn.Module, args: Any) -> Any:
        """Before output + residual is normalised: what is added to one is added to the sum."""
        adapter = self._adapter(place)
        if adapter is None:
            return None
        output, residual = args
        return output, residual + self.scale * adapter(residual)
