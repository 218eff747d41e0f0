"""Measures every task seen, with and without the task id, looking again only at what changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from ratchet.pipelines.data.batching import BatchRows, ordered_batches
from ratchet.pipelines.data.prepared import HeldOut
from ratchet.pipelines.data.tokens import TokenizedRows
from ratchet.pipelines.evaluation.answer_experts import Choices, experts_asked, experts_of
from ratchet.pipelines.evaluation.flips import pack_scores
from ratchet.pipelines.evaluation.learned_answers import LearnedAnswers, ServedBits
from ratchet.pipelines.evaluation.served_bits import served_bits, served_by_rule
from ratchet.pipelines.methods.base import MethodStack
from ratchet.pipelines.models.feature_table import feature_table
from ratchet.pipelines.models.prototype_router import Router
from ratchet.pipelines.models.router_statistics import RouterStatistics
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.types import Task, Workers, route_tasks

EVALUATION_ROWS = 64
NO_CLASS = -1


@dataclass(frozen=True)
class TaskScores:
    """Accuracies of one task, in [0, 1].

    Attributes:
        validation_own: Over the task's own labels (the task id is given), on validation data.
        validation_all: Over all labels seen (no task id), or None where that makes no sense.
        test_own: Over the task's own labels, on test data.
        test_all: Over all labels seen, on test data, or None.
        num_validation: Validation rows behind the figures.
        more: Further measures by name, each `validation_...` or `test_...`.
    """

    validation_own: float
    validation_all: float | None
    test_own: float
    test_all: float | None
    num_validation: int
    more: Mapping[str, float] = field(default_factory=dict)

    def as_dict(self) -> dict[str, int | float | None]:
        """Every measure by name, as plain JSON values."""
        known = asdict(self)
        return {**known.pop("more"), **known}


class Evaluator:
    """Evaluates tasks as the stream goes on.

    Features of a task are kept with the fingerprint of the parameters that made them; while the
    fingerprint stays the same, only the heads are applied again.

    Args:
        model: The model.
        stack: Its methods, to activate a task.
        labels: Label of each class id.
        workers: The worker group; each rank evaluates its shard of the rows.
        autocast: Precision of the forward pass.
        without_task_id: Whether accuracies without the task id are wanted.

    Attributes:
        right: Whether each test row of a task was answered right when it was measured last, 0 or 1:
            with the task id, and without it or None.
        held: How each validation row of a task was answered with its task id when it was measured
            last, in [0, 1].
    """

    def __init__(
        self,
        model: TaughtModel,
        stack: MethodStack,
        labels: Sequence[str],
        workers: Workers,
        autocast: Callable[[], Any],
        without_task_id: bool,
    ) -> None:
        self.model = model
        self.stack = stack
        self.workers = workers
        self.autocast = autocast
        self.without_task_id = without_task_id
        self.held_out: dict[int, HeldOut] = {}
        self.num_forwards = 0
        self.right: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.held: dict[int, Tensor] = {}
        self.labels = tuple(labels)
        self._label_ids = torch.tensor([labels.index(label) for label in labels])
        self._features: dict[int, tuple[str, Tensor]] = {}
        self._base_features: dict[int, Tensor] = {}

    @property
    def routes(self) -> bool:
        """Whether the task must be inferred before a label can be given."""
        return self.without_task_id and self.model.head.layout == "per_task"

    @property
    def serves_auto(self) -> bool:
        """Whether a version is asked without a task once it is served."""
        return True

    def evaluate(
        self, measured: Sequence[Task], seen: Sequence[Task], statistics: RouterStatistics
    ) -> dict[int, TaskScores]:
        """Measure tasks.

        Args:
            measured: The tasks to measure: those seen, and where one head serves all, later ones
                too.
            seen: All tasks taught so far.
            statistics: What the router knows, for models that need the task inferred.
        """
        was_training = self.model.training
        self.model.eval()
        try:
            router = statistics.fit(route_tasks(seen)) if self.routes else None
            prints = self._fingerprints(measured)
            return {task.id: self._score(task, seen, router, prints[task.id]) for task in measured}
        finally:
            self.model.train(was_training)

    def learned_answers(
        self, stage: Sequence[Task], seen: Sequence[Task], router: Router, accept_fraction: float
    ) -> dict[str, LearnedAnswers]:
        """What the validation rows of tasks that were just taught are answered, by their names.

        Every rank must call it, after the tasks were measured.

        Args:
            stage: The tasks.
            seen: All tasks taught so far, these among them.
            router: Fitted to what is known of them.
            accept_fraction: Share of all validation rows that is not to be rejected.
        """
        own = {task.name: pack_scores(self.held[task.id].tolist()) for task in stage}
        if not self.serves_auto:
            return {name: LearnedAnswers(bits) for name, bits in own.items()}
        held = {task.id: self.held_out[task.id].validation for task in seen}
        known = torch.cat([self.base_features(task.id)[held[task.id]] for task in seen])
        threshold = router.calibrate(known, accept_fraction)
        choices = Choices.of(seen, self.labels)
        return {
            task.name: LearnedAnswers(
                own[task.name], self._served(task, seen, choices, router, threshold)
            )
            for task in stage
        }

    def _served(
        self,
        task: Task,
        seen: Sequence[Task],
        choices: Choices,
        router: Router,
        threshold: float,
    ) -> dict[str, ServedBits]:
        """What a request with each validation row would get, by each rule."""
        held = self.held_out[task.id]
        scores = router.scores(self.base_features(task.id)[held.validation])
        places = {name: place for place, name in enumerate(choices.names)}
        of_class = torch.tensor([places.get(label, NO_CLASS) for label in self.labels])
        labels = of_class[held.rows.targets[held.validation]]
        own = of_class[list(task.class_ids)].unique()
        rejected = scores.in_scope < threshold
        with torch.no_grad():
            features = self._features[task.id][1].to(self.model.device)
            logits = self.model.heads(features).float().cpu()
        if not self.model.has_task_adapters and self.model.head.layout != "per_task":
            experts = experts_of(choices, scores, logits[held.validation])
            return served_by_rule(experts, choices, rejected, labels, own)
        nobody = experts_asked(choices, scores, [])
        found = served_by_rule(nobody, choices, rejected, labels, own, rules=("prototypes",))
        routed = self._routed(task, seen, logits, router)[held.validation]
        answers = torch.where(routed >= 0, of_class[routed.clamp(min=0)], NO_CLASS)
        bits = served_bits(answers, rejected, labels, own)
        return found | {"routed": bits, "mixture": bits}

    def base_features(self, task_id: int) -> Tensor:
        """Base features of a task's validation and test rows, computed once, [rows, base_width]."""
        if self.model.reads_base_features and task_id in self._features:
            return self._features[task_id][1]
        if task_id not in self._base_features:
            rows = self.held_out[task_id].rows
            self._base_features[task_id] = self._forward(rows, self.model.base_features)
        return self._base_features[task_id]

    def features_of(self, task_id: int, rows: BatchRows) -> Tensor:
        """Features of any rows with a task's own parameters active, [rows, width]."""
        self.stack.activate(self.model, task_id)
        return self._forward(rows, self.model.features)

    def compute(self, rows: BatchRows, compute: Callable[[Mapping[str, Tensor]], Tensor]) -> Tensor:
        """What a function of inputs gives for any rows, [rows, width], all ranks together."""
        return self._forward(rows, compute)

    def is_right(
        self, task: Task, seen: Sequence[Task], features: Tensor, targets: Tensor
    ) -> Tensor:
        """Whether rows of a task are answered right, [rows], bool.

        Among the labels of all tasks seen; where the task would have to be inferred, or is given,
        among its own.

        Args:
            task: The task, whose own parameters made the features.
            seen: All tasks taught so far.
            features: [rows, width].
            targets: Class ids, [rows].
        """
        with torch.no_grad():
            logits = self.model.heads(features.to(self.model.device)).float().cpu()
        known = [task] if self.routes or not self.without_task_id else seen
        classes = sorted({index for other in known for index in other.class_ids})
        return self._right(self._best(logits, classes), self._label_ids[targets]).bool()

    def validation_score(self, task: Task) -> float:
        """How well a task is known with its task id, in [0, 1], by its validation rows alone.

        The accuracy over the task's own labels. No other row is looked at and nothing is kept.
        Every rank must call it.
        """
        held = self.held_out[task.id]
        rows = held.rows.first(held.num_validation)
        was_training = self.model.training
        self.model.eval()
        try:
            return self._known(task, rows)
        finally:
            self.model.train(was_training)

    def _known(self, task: Task, rows: TokenizedRows) -> float:
        features = self.features_of(task.id, rows)
        with torch.no_grad():
            logits = self.model.heads(features.to(self.model.device)).float().cpu()
        answers = self._best(logits, task.class_ids)
        return _mean(self._right(answers, self._label_ids[rows.targets]))

    def _score(
        self, task: Task, seen: Sequence[Task], router: Router | None, fingerprint: str
    ) -> TaskScores:
        held = self.held_out[task.id]
        targets = self._label_ids[held.rows.targets]
        logits = self._logits(task, fingerprint)
        own = self._right(self._best(logits, task.class_ids), targets)
        everything: Tensor | None = None
        if router is not None:
            everything = self._right(self._routed(task, seen, logits, router), targets)
        elif self.without_task_id:
            known = sorted({index for other in seen for index in other.class_ids})
            everything = self._right(self._best(logits, known), targets)
        self.held[task.id] = own[held.validation]
        self.right[task.id] = (
            own[held.test],
            None if everything is None else everything[held.test],
        )
        return TaskScores(
            validation_own=_mean(own[held.validation]),
            validation_all=None if everything is None else _mean(everything[held.validation]),
            test_own=_mean(own[held.test]),
            test_all=None if everything is None else _mean(everything[held.test]),
            num_validation=held.num_validation,
        )

    def _logits(self, task: Task, fingerprint: str) -> Tensor:
        known = self._features.get(task.id)
        if known is None or known[0] != fingerprint:
            self.stack.activate(self.model, task.id)
            features = self._forward(self.held_out[task.id].rows, self.model.features)
            self._features[task.id] = (fingerprint, features)
        features = self._features[task.id][1]
        with torch.no_grad():
            return self.model.heads(features.to(self.model.device)).float().cpu()

    def _routed(self, task: Task, seen: Sequence[Task], logits: Tensor, router: Router) -> Tensor:
        """Class ids after routing, [rows]: the task that the router names answers each row."""
        routes = router.scores(self.base_features(task.id)).task_scores.argmax(dim=-1)
        answers = torch.full((len(routes),), NO_CLASS)
        for other in seen:
            rows = (routes == other.id).nonzero()[:, 0]
            if len(rows) == 0:
                continue
            if other.id == task.id:
                answers[rows] = self._best(logits[rows], task.class_ids)
            elif self._share_labels(task, other):
                answers[rows] = self._answers_of(other, task, rows)
        return answers

    def _answers_of(self, other: Task, task: Task, rows: Tensor) -> Tensor:
        """What another task's parameters say of some rows of this task."""
        self.stack.activate(self.model, other.id)
        held = self.held_out[task.id].rows
        parts = []
        for start in range(0, len(rows), EVALUATION_ROWS):
            batch = held.batch(rows[start : start + EVALUATION_ROWS], self.model.device)
            with torch.no_grad(), self.autocast():
                parts.append(self.model(batch.inputs).logits.float().cpu())
        return self._best(torch.cat(parts), other.class_ids)

    def _share_labels(self, one: Task, other: Task) -> bool:
        mine = set(self._label_ids[list(one.class_ids)].tolist())
        return bool(mine & set(self._label_ids[list(other.class_ids)].tolist()))

    def _forward(
        self, rows: BatchRows, compute: Callable[[Mapping[str, Tensor]], Tensor]
    ) -> Tensor:
        """Features of all rows [rows, width], each rank computing its shard."""
        self.num_forwards += 1
        shard = ordered_batches(
            rows,
            batch_size=EVALUATION_ROWS,
            rank=self.workers.rank,
            world_size=self.workers.world_size,
            device=self.model.device,
            even=self.model.is_sharded,
        )
        table = feature_table(self.model, compute, len(rows), shard, self.workers, self.autocast)
        return table.cpu()

    def _fingerprints(self, seen: Sequence[Task]) -> dict[int, str]:
        """What shapes each task's features; hashed once where all tasks share it."""
        if self.model.reads_base_features:
            return {task.id: "base" for task in seen}
        if self.model.has_task_adapters:
            return {task.id: self._fingerprint(task.id) for task in seen}
        shared = self._fingerprint(None)
        return {task.id: shared for task in seen}

    def _fingerprint(self, task_id: int | None) -> str:
        """The model's fingerprint, the same on every worker."""
        own = self.model.fingerprint(task_id)
        return "".join(self.workers.gather(own)) if self.model.is_sharded else own

    def _best(self, logits: Tensor, class_ids: Sequence[int]) -> Tensor:
        """The class with the largest logit among some, [rows]."""
        index = torch.tensor(class_ids)
        return index[logits[:, index].argmax(dim=-1)]

    def _right(self, answers: Tensor, targets: Tensor) -> Tensor:
        """Whether each answer carries the target's label, [rows], 0 or 1."""
        labels = torch.where(answers >= 0, self._label_ids[answers.clamp(min=0)], NO_CLASS)
        return (labels == targets).float()


def _mean(right: Tensor) -> float:
    return float(right.double().mean()) if len(right) else 0.0
