"""What is known of every class in the untouched base: counts, sums and one second moment.

All of it is sums. Workers add theirs up, a later task adds its own, and nothing of an old task is
looked at
again: order and sharding change the result only by rounding (the sums are float64).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ratchet.pipelines.errors import ModelError
from ratchet.pipelines.models.prototype_router import Router, fit_router
from ratchet.pipelines.models.symmetric import pack_symmetric, unpack_symmetric


@dataclass
class RouterStatistics:
    """Sums over the training rows of every task, from which a `Router` is made.

    A class here is one label of one task. Where tasks share labels (`domain_incremental`) the
    caller numbers each (task, label) pair as a class of its own, because a class must lead to a
    single task.

    Attributes:
        counts: Rows of each class, [classes], float64 so that all sums are of one type.
        sums: Sum of the features of each class, [classes, width], float64.
        second_moment: Sum of x x^T over all rows, not centered, [width, width], float64.
    """

    counts: Tensor
    sums: Tensor
    second_moment: Tensor

    @classmethod
    def empty(cls, width: int, num_classes: int = 0) -> RouterStatistics:
        """Statistics of no rows, for features of this width."""
        return cls(
            counts=torch.zeros(num_classes, dtype=torch.float64),
            sums=torch.zeros(num_classes, width, dtype=torch.float64),
            second_moment=torch.zeros(width, width, dtype=torch.float64),
        )

    @property
    def width(self) -> int:
        """Width of the features."""
        return int(self.sums.shape[1])

    @property
    def num_classes(self) -> int:
        """Classes that there is room for, with or without rows."""
        return int(self.sums.shape[0])

    @property
    def num_rows(self) -> int:
        """Rows summed so far."""
        return int(self.counts.sum())

    def grow(self, num_classes: int) -> None:
        """Make room for classes up to this number; what is there stays."""
        missing = num_classes - self.num_classes
        if missing > 0:
            self.counts = torch.cat([self.counts, self.counts.new_zeros(missing)])
            self.sums = torch.cat([self.sums, self.sums.new_zeros(missing, self.width)])

    def add(self, features: Tensor, class_ids: Tensor, num_classes: int) -> None:
        """Add rows.

        Args:
            features: `Classifier.base_features` of the rows, [rows, width].
            class_ids: The class of each row, [rows], int64.
            num_classes: Classes in the lineage with those of the present stage, equal on all
                workers.

        Raises:
            ModelError: Features of another width, or a class id out of range.
        """
        self._check_width(int(features.shape[1]))
        self.grow(num_classes)
        if len(class_ids) and not 0 <= int(class_ids.min()) <= int(class_ids.max()) < num_classes:
            raise ModelError(
                f"class ids span {int(class_ids.min())} to {int(class_ids.max())}, and router "
                f"statistics have room for 0 to {num_classes - 1}; "
                "pass num_classes of the whole lineage"
            )
        rows = features.detach().to(self.sums)
        class_ids = class_ids.to(self.sums.device)
        self.counts += torch.bincount(class_ids, minlength=self.num_classes)
        self.sums.index_add_(0, class_ids, rows)
        self.second_moment.addmm_(rows.T, rows)

    def tensors(self) -> list[Tensor]:
        """The sums themselves, to be added over workers in place; first `grow` to the same size."""
        return [self.counts, self.sums, self.second_moment]

    def merge(self, other: RouterStatistics) -> None:
        """Add the sums of other rows: another worker's, or a later stage's.

        Raises:
            ModelError: The other statistics are of features of another width.
        """
        self._check_width(other.width)
        self.grow(other.num_classes)
        self.counts[: other.num_classes] += other.counts
        self.sums[: other.num_classes] += other.sums
        self.second_moment += other.second_moment

    def fit(self, class_tasks: Tensor) -> Router:
        """Precompute what scoring needs.

        Args:
            class_tasks: The task id of each class, [classes], int64.

        Raises:
            ModelError: No rows yet, or not one task id for each class.
        """
        return fit_router(self.counts, self.sums, self.second_moment, class_tasks)

    def state_dict(self) -> dict[str, Tensor]:
        """Tensors for `router.safetensors`; the second moment as its upper triangle."""
        return {
            "counts": self.counts,
            "sums": self.sums,
            "second_moment": pack_symmetric(self.second_moment),
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Tensor]) -> RouterStatistics:
        """The statistics that `state_dict` described, value for value.

        Raises:
            ModelError: A tensor is missing, or their shapes do not fit together.
        """
        missing = {"counts", "sums", "second_moment"} - state.keys()
        if missing:
            raise ModelError(
                f"router statistics lack {', '.join(sorted(missing))}; write them again"
            )
        second_moment = unpack_symmetric(state["second_moment"])
        counts, sums = state["counts"].clone(), state["sums"].clone()
        if sums.shape != (len(counts), len(second_moment)):
            raise ModelError(
                f"router statistics do not fit together: counts {list(counts.shape)}, sums "
                f"{list(sums.shape)}, second moment {list(second_moment.shape)}; write them again"
            )
        return cls(counts, sums, second_moment)

    def _check_width(self, width: int) -> None:
        if width != self.width:
            raise ModelError(
                f"features are {width} wide, and the router statistics {self.width}; "
                "a lineage keeps its base model and route layers"
            )
