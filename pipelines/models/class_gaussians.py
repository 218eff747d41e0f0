"""Features of classes, imitated: a mean for each class and one covariance for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ratchet.pipelines.models.router_statistics import RouterStatistics


@dataclass(frozen=True)
class ClassGaussians:
    """A Gaussian for each class that has rows, all of one shape.

    One covariance, pooled within the classes, because a class has fewer rows than features are
    wide: a full one of its own could not be told from its few rows, and a diagonal one leaves out
    how the features of an encoder move together.

    Attributes:
        classes: The classes that there are, [known], int64, numbered as in the statistics.
        means: Of each, [known, width], float32.
        root: A square root of the covariance, [width, width], float32.
    """

    classes: Tensor
    means: Tensor
    root: Tensor

    @staticmethod
    def of(statistics: RouterStatistics) -> ClassGaussians:
        """The Gaussians of sums over rows; without a row there is none."""
        classes = statistics.counts.nonzero()[:, 0]
        counts = statistics.counts[classes]
        means = statistics.sums[classes] / counts[:, None]
        between = means.T @ (means * counts[:, None])
        # Every class has spent a row on its mean.
        freedom = (counts.sum() - len(counts)).clamp(min=1.0)
        covariance = (statistics.second_moment - between) / freedom
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0.0).sqrt()  # rounding makes zeros slightly negative
        return ClassGaussians(classes, means.float(), root.float())

    def draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Imitated rows, every class equally likely.

        Returns:
            Features [count, width], float32, and the class of each row [count], int64.
        """
        chosen = torch.randint(len(self.classes), (count,), generator=generator)
        noise = torch.randn(count, self.means.shape[1], generator=generator)
        return self.means[chosen] + noise @ self.root.T, self.classes[chosen]
