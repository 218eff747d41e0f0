"""Pseudo-rehearsal for classifiers: features of old classes are imitated, and no text is kept."""

from __future__ import annotations

import torch
from torch import Tensor

from ratchet.pipelines.methods.base import Method, MethodState
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.methods.whole_rows import WholeRows
from ratchet.pipelines.models.class_gaussians import ClassGaussians
from ratchet.pipelines.models.router_statistics import RouterStatistics
from ratchet.pipelines.spec.methods.replay import GenerativeConfig
from ratchet.pipelines.types import Batch, Output, route_classes

ANY_TOKENS = torch.zeros(1, dtype=torch.int32)
"""Of rows whose features are given, so that no token is read."""


class FeatureRehearsal(Method):
    """Rehearses features drawn from a Gaussian for each old class; see `GenerativeConfig`.

    The heads alone rehearse: a drawn row goes through them as it is, and weighs as much as a row of
    the batch. The Gaussians are those of the features at the end of the task that taught the
    class. Where the backbone trains on, true features drift away from them and the heads rehearse
    what no text gives any more: freeze it (`freeze` with `num_blocks: 0`, or a warm-up).

    Every worker draws its own rows; the gradients are averaged. What is kept is a mean a class and
    one second moment, [width, width], however many tasks there are.

    Deviation from Sun 2020, arXiv:1909.03329, which imitates text: an encoder writes none.
    """

    def __init__(self, config: GenerativeConfig) -> None:
        self.config = config
        self.statistics: RouterStatistics | None = None
        self._gaussians: ClassGaussians | None = None
        self._whole_rows = WholeRows()

    def begin_task(self, ctx: TaskContext) -> None:
        """Owe nothing; the Gaussians of the last task count from now on."""
        self._whole_rows.rest = 0.0
        self._gaussians = None

    def loss(self, ctx: TaskContext, batch: Batch, output: Output) -> Tensor | None:
        """The loss on `ratio` drawn rows for each new one, restricted as the task loss is."""
        if self.config.ratio == 0 or self.statistics is None:
            return None
        new = batch.parts["new"]
        count = self._whole_rows.take((new.stop - new.start) * self.config.ratio)
        if count == 0:
            return None
        if self._gaussians is None:
            self._gaussians = ClassGaussians.of(self.statistics)
        features, classes = self._gaussians.draw(count, ctx.generator)
        pairs = torch.tensor([(c, t.id) for t in ctx.seen for c in t.class_ids])[classes]
        rows = ctx.batch_of([ANY_TOKENS] * count, pairs[:, 0], pairs[:, 1])
        drawn = ctx.forward(rows, features.to(batch.weights.device))
        return ctx.model.row_losses(drawn, rows).sum() / batch.weights.sum()

    def end_task(self, ctx: TaskContext) -> None:
        """Add the features of the rows just learned, of all workers; nothing is owed any more."""
        self._whole_rows.rest = 0.0
        if self.config.ratio == 0:
            return
        tasks = (*ctx.seen, *ctx.tasks)
        num_classes = sum(len(task.class_ids) for task in tasks)
        fresh = RouterStatistics.empty(ctx.model.dim, num_classes)
        was_training = ctx.model.training
        ctx.model.eval()
        for batch in ctx.batches():
            with torch.no_grad(), ctx.autocast():
                features = ctx.model.features(batch.inputs)
            classes = route_classes(tasks, batch.targets, batch.task_ids)
            fresh.add(features.cpu(), classes.cpu(), num_classes)
        ctx.model.train(was_training)
        ctx.workers.sum(fresh.tensors())
        if self.statistics is not None:
            fresh.merge(self.statistics)
        self.statistics = fresh

    def state_dict(self) -> MethodState:
        """The sums, and the part of a row still owed."""
        tensors = {} if self.statistics is None else self.statistics.state_dict()
        return MethodState(tensors, {"owed": self._whole_rows.rest})

    def load_state_dict(self, state: MethodState) -> None:
        """Put them back."""
        self._whole_rows.rest = float(state.values["owed"])
        self.statistics = RouterStatistics.from_state(state.tensors) if state.tensors else None
        self._gaussians = None
