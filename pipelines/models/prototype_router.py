"""Which task a text belongs to, and whether it belongs to any: distances to class prototypes.

Sources: Lee 2018, arXiv:1807.03888 (class means with one shared covariance); Ren 2021,
arXiv:2106.09022 (relative Mahalanobis distance). Deviations, each chosen on validation rows of
CLINC150:

- The covariance is shrunk towards a multiple of the identity by OAS (Chen 2010, arXiv:0907.4698),
  whose intensity follows from the sums themselves, so that few rows or wide features need no
  setting.
- The background is the shrunk within-class covariance plus the covariance of the class means, not
  the total covariance shrunk by itself: with few tasks two intensities make foreign text look
  familiar (AUROC below 5 % with one task of 15 classes, above 97 % so).
- Its distance counts with weight 0.9, not 1. With a single class, whose background is itself, the
  score is then the plain distance instead of nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ratchet.pipelines.errors import ModelError

BACKGROUND_WEIGHT = 0.9
TEMPERATURE = 48.0  # in units of squared distance: features are not Gaussian, and 2 is far too sure


@dataclass(frozen=True)
class RouteScores:
    """What a router says about rows.

    Attributes:
        task_scores: Log-probability of each task among all, [rows, tasks]; -inf for tasks without
            rows.
        class_distances: Squared Mahalanobis distance to each class mean, [rows, classes]; inf for
            classes without rows. The nearest is the class that the router alone would choose.
        margin: Probability of the best task minus that of the second, [rows], 0 to 1; 1 where there
            is one task.
        in_scope: Higher means more in scope, [rows]: 0.9 times the distance to the background minus
            the distance to the nearest class (the negative of the relative distance in the
            literature).
    """

    task_scores: Tensor
    class_distances: Tensor
    margin: Tensor
    in_scope: Tensor


@dataclass(frozen=True)
class Router:
    """Class means in the space where the shrunk within-class covariance is the identity.

    Attributes:
        center: Mean of all rows, [width], float32 as all of these.
        whitening: Maps centered rows into that space, [width, width].
        prototypes: Class means there, [classes, width]; zeros for classes without rows.
        offsets: Squared length of each prototype, [classes]; inf for classes without rows.
        background: Directions in which class means differ, scaled so that the squared length of a
            row's image is what these differences take off its distance to the background, [width,
            rank].
        members: Classes of each task, padded with the number of classes, [tasks, most classes of a
            task].
    """

    center: Tensor
    whitening: Tensor
    prototypes: Tensor
    offsets: Tensor
    background: Tensor
    members: Tensor

    def to(self, device: torch.device | str) -> Router:
        """The same router on another device."""
        return replace(self, **{name: value.to(device) for name, value in vars(self).items()})

    @torch.no_grad()
    def scores(self, features: Tensor) -> RouteScores:
        """Score rows against every class and task.

        Args:
            features: `Classifier.base_features`, [rows, width].
        """
        white = (features.float() - self.center) @ self.whitening
        lengths = white.square().sum(dim=1)
        distances = lengths[:, None] - 2 * white @ self.prototypes.T + self.offsets
        distances = distances.clamp(min=0)
        to_background = lengths - (white @ self.background).square().sum(dim=1)
        in_scope = BACKGROUND_WEIGHT * to_background - distances.min(dim=1).values
        task_scores = self._task_scores(distances)
        return RouteScores(task_scores, distances, _margin(task_scores), in_scope)

    def _task_scores(self, distances: Tensor) -> Tensor:
        nobody = distances.new_full((len(distances), 1), torch.inf)
        of_tasks = torch.cat([distances, nobody], dim=1)[:, self.members]
        return torch.logsumexp(-of_tasks / TEMPERATURE, dim=2).log_softmax(dim=1)

    def calibrate(self, features: Tensor, accept_fraction: float) -> float:
        """The threshold on `in_scope` that this share of rows, or just more, reaches.

        The score of an old row moves whenever statistics grow, so a threshold belongs to one
        router: after every update, score the validation rows of all tasks anew. A version carries
        these rows, and their base features never change within a lineage, so they need to be
        computed once only.

        Args:
            features: Base features of validation rows of every task, [rows, width]; never training
                rows, whose distances to their own means are too small.
            accept_fraction: Share to accept, above 0 and at most 1.

        Raises:
            ModelError: No rows, or a share out of range.
        """
        if not 0 < accept_fraction <= 1:
            raise ModelError(
                f"accept_fraction must be above 0 and at most 1, got {accept_fraction}; "
                "0.95 is usual"
            )
        if len(features) == 0:
            raise ModelError(
                "a router is calibrated on validation rows, and there are none; add some"
            )
        ranked = self.scores(features).in_scope.sort().values
        return float(ranked[int((1 - accept_fraction) * len(ranked) + 1e-9)])


def _margin(task_scores: Tensor) -> Tensor:
    best = task_scores.exp().topk(min(2, task_scores.shape[1]), dim=1).values
    return best[:, 0] - best[:, 1] if best.shape[1] == 2 else best[:, 0]


def fit_router(counts: Tensor, sums: Tensor, second_moment: Tensor, class_tasks: Tensor) -> Router:
    """A router from sums; see `RouterStatistics` for the shapes.

    Raises:
        ModelError: No rows yet, or not one task id for each class.
    """
    if len(class_tasks) != len(counts):
        raise ModelError(
            f"class_tasks names the task of {len(class_tasks)} classes, and there are "
            f"{len(counts)}; pass one task id for each class"
        )
    if not counts.any():
        raise ModelError("a router needs the statistics of at least one row; teach a task first")
    live = counts > 0
    center = sums.sum(dim=0) / counts.sum()
    means = sums[live] / counts[live, None]
    lower = torch.linalg.cholesky(_within_covariance(counts[live], means, second_moment))
    whiten = torch.linalg.solve_triangular(lower, torch.eye(len(lower)).to(lower), upper=False).T
    white = (means - center) @ whiten
    prototypes = torch.zeros_like(sums)
    prototypes[live] = white
    offsets = torch.where(live, prototypes.square().sum(dim=1), torch.inf)
    router = Router(
        center=center,
        whitening=whiten,
        prototypes=prototypes,
        offsets=offsets,
        background=_background(white, counts[live] / counts.sum()),
        members=_members(class_tasks),
    )
    return _single_precision(router)


def _within_covariance(counts: Tensor, means: Tensor, second_moment: Tensor) -> Tensor:
    """Pooled covariance within classes, shrunk to be well-conditioned for any number of rows."""
    width = second_moment.shape[0]
    scatter = second_moment - (means * counts[:, None]).T @ means
    freedom = float(counts.sum()) - len(counts)
    identity = torch.eye(width).to(scatter)
    # Rounding leaves about 1e-16 of the total where the rows of each class are equal, or only one.
    if freedom <= 0 or float(scatter.trace()) <= 1e-12 * float(second_moment.trace()):
        return identity * _spread_of_means(counts, means)
    covariance = scatter / freedom
    share = oas_shrinkage(covariance, freedom)
    return (1 - share) * covariance + share * float(covariance.trace()) / width * identity


def _spread_of_means(counts: Tensor, means: Tensor) -> float:
    """Mean variance of the class means: the only scale where classes have no spread."""
    shares = counts / counts.sum()
    variance = float((shares @ (means - shares @ means).square()).mean())
    return variance if variance > 0 else 1.0


def oas_shrinkage(covariance: Tensor, num_rows: float) -> float:
    """Share of the identity in a shrunk covariance, 0 to 1: the oracle approximating estimator.

    Source: Chen 2010, arXiv:0907.4698, equation 23.
    """
    width = covariance.shape[0]
    squares, trace_squared = float(covariance.square().sum()), float(covariance.trace()) ** 2
    spread = squares - trace_squared / width
    if spread <= 0:
        return 1.0
    share = ((1 - 2 / width) * squares + trace_squared) / ((num_rows + 1 - 2 / width) * spread)
    return min(1.0, share)


def _background(white: Tensor, shares: Tensor) -> Tensor:
    """Directions of `Router.background`, from (I + B)^-1 = I - U diag(s^2 / (1 + s^2)) U^T.

    B is the covariance of the whitened class means, of rank at most the number of classes, so that
    the distance to the background costs no second whitening.
    """
    _, strengths, directions = torch.linalg.svd(white * shares.sqrt()[:, None], full_matrices=False)
    return directions.T * (strengths.square() / (1 + strengths.square())).sqrt()


def _members(class_tasks: Tensor) -> Tensor:
    tasks = [torch.nonzero(class_tasks == task)[:, 0] for task in range(int(class_tasks.max()) + 1)]
    return torch.nn.utils.rnn.pad_sequence(
        tasks, True, padding_value=float(len(class_tasks))
    ).long()


def _single_precision(router: Router) -> Router:
    floats = {name: value.float() for name, value in vars(router).items() if name != "members"}
    return replace(router, **floats)
