# pyright: reportUnknownArgumentType=false
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
"""Analytic learning: frozen features, a random projection, a ridge head solved from sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.base import Method, MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.ridge import RidgeSums
from ratchet.pipelines.models.ridge_head import RidgeHead
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.methods.isolation import AnalyticConfig
from ratchet.pipelines.types import Batch, Output, Task

BUFFER_ROWS = 512
VALIDATION_ROWS = 500
SUMS = ("gram", "moment", "num_rows")


class Analytic(Method):
    """Exact ridge regression on fixed random features, in one pass and without forgetting.

    Source: McDonnell 2023 (RanPAC), arXiv:2307.02251. Deviations: the features are the pooled
    outputs of several layers; no first-task tuning of the backbone; the ridge is relative to the
    mean diagonal of the Gram matrix, and chosen on validation rows of all tasks instead of a fifth
    of the present task's training rows.

    The weights depend on the sum over all rows ever seen, and on nothing else: any order of tasks,
    any sharding, and all tasks at once give the same. The features of at most `VALIDATION_ROWS`
    validation rows a task stay in the state, so that choosing the ridge needs no old data.

    While a stage is under way, rank 0 holds the sums of all stages before plus its own rows, and
    the others their own rows only. The sum over the workers is then the whole, in half the memory
    of running sums beside those of the stage.

    Args:
        config: The settings.
    """

    trains = AnalyticConfig.trains
    settles_weights = True
    exact = True

    def __init__(self, config: AnalyticConfig) -> None:
        self.config = config
        self.ridge: float | None = None
        self._head: RidgeHead | None = None
        self._sums: RidgeSums | None = None
        self._is_share = False
        self._buffer: list[tuple[Tensor, Tensor, Tensor]] = []
        self._validation: dict[int, tuple[Tensor, Tensor]] = {}

    def expand(self, model: TaughtModel, task: Task) -> None:
        """Freeze the backbone, read the chosen layers, make room for the task in the head.

        Raises:
            MethodError: `layers` names a layer that the model does not have.
        """
        if not isinstance(model.heads, RidgeHead):
            model.route_layers = self._layers(model)
            model.reads_base_features = True
            model.keep_base()
            head = RidgeHead(model.base_width, self.config.width, self.config.projection_seed)
            model.heads = head.to(model.device)
        model.head.add(task)
        self._head = model.heads

    def begin_task(self, ctx: TaskContext) -> None:
        """Leave the sums of earlier stages to rank 0."""
        if not self._is_share and ctx.workers.rank != 0:
            self._sums = None
        self._is_share = True

    def after_step(self, ctx: TaskContext, batch: Batch, output: Output) -> None:
        """Add the rows of a batch, some hundred at a time: the Gram matrix is large."""
        self._buffer.append((output.features.detach().float(), batch.targets, batch.weights))
        if sum(len(features) for features, _, _ in self._buffer) >= BUFFER_ROWS:
            self._flush()

    def end_task(self, ctx: TaskContext) -> None:
        """Sum over the workers, choose the ridge, and put the solved weights into the head.

        Raises:
            MethodError: There are several ridges to choose from and no validation rows.
        """
        self._flush()
        if ctx.workers.world_size > 1:
            state = self._whole_sums().state_dict()
            ctx.workers.sum(list(state.values()))
            self._sums = RidgeSums.from_state(state)
        self._is_share = False
        for task in ctx.tasks:
            self._validation[task.id] = self._validation_features(ctx, task.id)
        head = self._require_head()
        head.weight.copy_(self._solve(ctx))

    def state_dict(self) -> MethodState:
        """The sums of this worker and the validation features."""
        self._flush()
        tensors = {} if self._sums is None else self._sums.state_dict()
        for task_id, (features, targets) in self._validation.items():
            tensors[f"validation.{task_id:03d}.features"] = features.clone()
            tensors[f"validation.{task_id:03d}.targets"] = targets.clone()
        return MethodState(tensors, {"ridge": self.ridge, "is_share": self._is_share})

    def load_state_dict(self, state: MethodState) -> None:
        """Put back the sums and the validation features."""
        self.ridge = state.values["ridge"]
        self._is_share = state.values["is_share"]
        self._buffer = []
        self._sums = RidgeSums.from_state(state.tensors) if "gram" in state.tensors else None
        self._validation = {}
        for name, tensor in state.tensors.items():
            if name.startswith("validation.") and name.endswith(".features"):
                targets = state.tensors[name.removesuffix("features") + "targets"]
                self._validation[int(name.split(".")[1])] = (tensor.clone(), targets.clone())

    def merge_states(self, states: Sequence[MethodState]) -> MethodState:
        """Shares are added; whole sums are equal on all workers, and the first stand."""
        if not states[0].values["is_share"]:
            return states[0]
        shares = [RidgeSums.from_state(s.tensors) for s in states if "gram" in s.tensors]
        if not shares:
            return states[0]
        for share in shares[1:]:
            shares[0].merge(share)
        return replace(states[0], tensors=states[0].tensors | shares[0].state_dict())

    def shard_state(self, state: MethodState, rank: int, world_size: int) -> MethodState:
        """Merged shares go to rank 0; whole sums to everyone."""
        if rank == 0 or not state.values["is_share"]:
            return state
        kept = {name: tensor for name, tensor in state.tensors.items() if name not in SUMS}
        return replace(state, tensors=kept)

    def _layers(self, model: TaughtModel) -> tuple[int, ...]:
        if self.config.layers == "spread":
            return model.route_layers
        if self.config.layers == "last":
            return (model.num_layers,)
        wrong = [layer for layer in self.config.layers if not 0 <= layer <= model.num_layers]
        if wrong or not self.config.layers:
            raise MethodError(
                f"methods.analytic.layers: {list(self.config.layers)} does not fit {model.name}; "
                f"name some of 0 (embeddings) to {model.num_layers}, or use 'spread' or 'last'"
            )
        return self.config.layers

    def _require_head(self) -> RidgeHead:
        if self._head is None:
            raise MethodError("analytic has no head yet; call expand() with the first task")
        return self._head

    def _whole_sums(self) -> RidgeSums:
        """The sums, with room for every class, on the device of the head."""
        head = self._require_head()
        if self._sums is None:
            self._sums = RidgeSums.empty(self.config.width)
        self._sums = self._sums.to(head.weight.device)
        self._sums.grow(head.num_classes)
        return self._sums

    def _flush(self) -> None:
        if not self._buffer:
            return
        features, targets, weights = (torch.cat(parts) for parts in zip(*self._buffer, strict=True))
        self._buffer = []
        hidden = self._require_head().project(features)
        self._whole_sums().add(hidden, targets, weights)

    @torch.no_grad()
    def _validation_features(self, ctx: TaskContext, task_id: int) -> tuple[Tensor, Tensor]:
        """Features and class ids of a task's validation rows, evenly thinned to the bound."""
        features, targets = [], []
        for batch in ctx.validation(task_id):
            with ctx.autocast():
                features.append(ctx.model.features(batch.inputs).float())
            targets.append(batch.targets)
        if not features:
            return torch.zeros(0, ctx.model.base_width), torch.zeros(0, dtype=torch.int64)
        num_rows = sum(len(part) for part in targets)
        kept = torch.linspace(0, num_rows - 1, min(num_rows, VALIDATION_ROWS)).round().long()
        return torch.cat(features)[kept], torch.cat(targets)[kept]

    def _solve(self, ctx: TaskContext) -> Tensor:
        """Weights [classes, width] of the best ridge; the workers share out the grid."""
        sums = self._whole_sums()
        grid, workers = sorted(self.config.ridge_grid), ctx.workers
        mine = range(workers.rank, len(grid), workers.world_size)
        solutions = dict(zip(mine, sums.solutions(grid[i] for i in mine), strict=True))
        scored = list(zip(self._num_correct(list(solutions.values())), mine, strict=True))
        _, best = max(pair for pairs in workers.gather(scored) for pair in pairs)
        self.ridge = grid[best]
        weights = solutions.get(best, torch.zeros_like(sums.moment))
        workers.sum([weights])
        return weights.float()

    def _num_correct(self, solutions: list[Tensor]) -> list[int]:
        """Validation rows of all tasks seen that each solution gets right."""
        if not any(len(targets) for _, targets in self._validation.values()):
            return self._without_validation(solutions)
        head = self._require_head()
        correct = [0] * len(solutions)
        for features, targets in self._validation.values():
            hidden = head.project(features.to(head.weight.device))
            for i, weights in enumerate(solutions):
                chosen = (hidden @ weights.float().T).argmax(dim=1)
                correct[i] += int((chosen == targets.to(chosen.device)).sum())
        return correct

    def _without_validation(self, solutions: list[Tensor]) -> list[int]:
        if len(self.config.ridge_grid) > 1:
            raise MethodError(
                f"methods.analytic.ridge_grid: {list(self.config.ridge_grid)} is chosen from by "
                "validation rows, and no task has any; add them, or name a single ridge"
            )
        return [0] * len(solutions)
