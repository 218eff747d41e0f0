"""Ridge regression from summed statistics: exact, in any order, over any number of shards.

Source: McDonnell 2023 (RanPAC), arXiv:2307.02251.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.symmetric import pack_symmetric, unpack_symmetric

BLOCK = 1024


def random_projection(width_in: int, width: int, seed: int) -> Tensor:
    """A fixed Gaussian matrix [width_in, width], float32, from its seed alone.

    It is made again wherever it is needed and never saved, on the CPU so that it is the same on all
    devices. Its scale keeps lengths; the ridge is relative to the size of the features, so that
    the scale changes no prediction.
    """
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(width_in, width, generator=generator) * width_in**-0.5


def project(features: Tensor, projection: Tensor) -> Tensor:
    """Random features relu(x P): [rows, width_in] -> [rows, width], float32."""
    return functional.relu(features.float() @ projection)


@dataclass
class RidgeSums:
    """The sums that determine a ridge regression onto one-hot classes.

    They are float64, also where they are written: another order of the rows then moves the weights
    by 2e-8 of the largest (CLINC150, width 5000), against 3e-4 with sums in float32; rounding to
    float32 when writing would move them by 4e-5.

    Attributes:
        gram: Sum of h h^T, [width, width]; only the upper triangle counts, the rest is not kept up.
        moment: Sum of y h^T with y one-hot, [classes, width].
        num_rows: Rows summed (their weights added up).
    """

    gram: Tensor
    moment: Tensor
    num_rows: float = 0.0

    @classmethod
    def empty(cls, width: int, device: torch.device | str = "cpu") -> RidgeSums:
        """Sums of no rows and no classes."""
        return cls(
            gram=torch.zeros(width, width, dtype=torch.float64, device=device),
            moment=torch.zeros(0, width, dtype=torch.float64, device=device),
        )

    def grow(self, num_classes: int) -> None:
        """Make room for classes up to this number; what is there stays."""
        missing = max(0, num_classes - len(self.moment))
        self.moment = functional.pad(self.moment, (0, 0, 0, missing))

    def add(self, hidden: Tensor, targets: Tensor, weights: Tensor) -> None:
        """Add rows.

        Args:
            hidden: Random features, [rows, width].
            targets: Class ids, [rows], int64; `grow` made room for them.
            weights: Weight of each row, [rows].
        """
        rows = hidden.double()
        weighted = rows * weights.double()[:, None]
        for start in range(0, len(self.gram), BLOCK):
            band = slice(start, start + BLOCK)
            self.gram[band, start:].addmm_(weighted[:, band].T, rows[:, start:])
        self.moment.index_add_(0, targets, weighted)
        self.num_rows += float(weights.double().sum())

    def to(self, device: torch.device | str) -> RidgeSums:
        """The same sums on another device."""
        return RidgeSums(self.gram.to(device), self.moment.to(device), self.num_rows)

    def merge(self, other: RidgeSums) -> None:
        """Add the sums of other rows of the same features."""
        self.grow(len(other.moment))
        self.gram += other.gram
        self.moment[: len(other.moment)] += other.moment
        self.num_rows += other.num_rows

    def solutions(self, ridges: Iterable[float]) -> Iterator[Tensor]:
        """Weights W = C (G + ridge * mean(diag G) I)^-1 for each ridge, [classes, width], float64.

        One Cholesky factorization each: at width 5000 seven of them take 10 s on one core, and an
        eigendecomposition that would serve them all takes longer.

        Raises:
            ModelError: No rows were added.
        """
        scale = float(self.gram.diagonal().mean())
        if scale <= 0:
            raise ModelError("a ridge regression needs rows with features above zero; add some")
        gram = self.gram.triu()
        gram += self.gram.triu(1).T
        diagonal = self.gram.diagonal()
        for ridge in ridges:
            gram.diagonal().copy_(diagonal + ridge * scale)
            yield torch.cholesky_solve(self.moment.T, torch.linalg.cholesky(gram)).T.contiguous()

    def state_dict(self) -> dict[str, Tensor]:
        """The sums as new tensors, the Gram matrix as its upper triangle."""
        return {
            "gram": pack_symmetric(self.gram),
            "moment": self.moment.clone(),
            "num_rows": self.moment.new_tensor(self.num_rows),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> RidgeSums:
        """The sums that `state_dict` described, value for value.

        Raises:
            ModelError: The tensors do not fit together.
        """
        gram, moment = unpack_symmetric(state["gram"]), state["moment"].clone()
        if moment.shape[1] != len(gram):
            raise ModelError(
                f"saved ridge sums do not fit together: the Gram matrix is {len(gram)} wide, "
                f"and the class sums {moment.shape[1]}; write the version again"
            )
        return cls(gram, moment, float(state["num_rows"]))
