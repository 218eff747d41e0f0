"""Seeds and random state, so that the same spec gives the same weights, interrupted or not."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor


def derive_seed(seed: int, *parts: object) -> int:
    """A seed of its own for a purpose: a stable hash of the run's seed and the parts."""
    text = "/".join([str(seed), *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


def random_state(generator: torch.Generator) -> dict[str, Tensor]:
    """State of torch's global generators and of the rank's own, as tensors."""
    state = {"torch": torch.get_rng_state(), "rank": generator.get_state()}
    if torch.cuda.is_initialized():  # what computes elsewhere is not to take memory of a GPU
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Tensor], generator: torch.Generator) -> None:
    """Put back what `random_state` gave."""
    torch.set_rng_state(state["torch"])
    generator.set_state(state["rank"])
    if torch.cuda.is_initialized() and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"])
