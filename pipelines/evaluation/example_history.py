"""How often training examples are forgotten, counted look by look (Toneva 2019)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class ExampleHistory:
    """What is known of some examples after each look at them.

    Equal to `metrics.forgetting_events` of the whole history, without keeping it.

    Attributes:
        previous: Whether each was right at the last look, [examples], bool.
        ever: Whether each was ever right, [examples], bool.
        events: How often each went from right to wrong, [examples], int32.
        num_looks: Looks so far.
    """

    previous: Tensor
    ever: Tensor
    events: Tensor
    num_looks: int = 0

    @staticmethod
    def of(num_examples: int) -> ExampleHistory:
        """Examples that were not looked at yet."""
        nothing = torch.zeros(num_examples, dtype=torch.bool)
        return ExampleHistory(
            nothing, nothing.clone(), torch.zeros(num_examples, dtype=torch.int32)
        )

    def look(self, right: Tensor) -> None:
        """Add a look: whether each example is right now, [examples], bool."""
        self.events += (self.previous & ~right).int()
        self.ever |= right
        self.previous = right.clone()
        self.num_looks += 1

    def counts(self) -> Tensor:
        """Forgetting events, [examples]; what was never right counts as the number of looks."""
        return torch.where(self.ever, self.events, self.num_looks)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors from which `from_state` makes the same history."""
        return {
            "previous": self.previous,
            "ever": self.ever,
            "events": self.events,
            "num_looks": torch.tensor(self.num_looks),
        }

    @staticmethod
    def from_state(state: Mapping[str, Tensor]) -> ExampleHistory:
        """The history that `state_dict` described."""
        return ExampleHistory(
            state["previous"], state["ever"], state["events"], int(state["num_looks"])
        )
