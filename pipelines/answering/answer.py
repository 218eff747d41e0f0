"""Answers a batch of texts of any tasks and versions: route, reject, then one pass for labels.

At most one pass of the frozen base for the texts whose task must be inferred, and one pass through
all adapters together for those that are answered. Versions with a backbone of their own cost a pass
each.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from ratchet.pipelines.answering.frozen_base import FrozenBase
from ratchet.pipelines.answering.served_version import ServedVersion
from ratchet.pipelines.data.tokens import TokenizedRows

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Query:
    """A text and what shall answer it.

    Attributes:
        text: The text.
        version: The version.
        task_id: The task, or None where it is to be inferred.
    """

    text: str
    version: ServedVersion
    task_id: int | None


@dataclass(frozen=True)
class Answer:
    """What a version says of a text; see `Classification` and `Route` for the fields."""

    label: str | None
    probs: list[float]
    task: str | None
    version: int
    score: float
    margin: float
    abstained: bool
    num_tokens: int


@dataclass(frozen=True)
class _Routed:
    """Where a query goes.

    Attributes:
        task_id: The task that was named, or the most probable one.
        score: Its probability; None where it was named.
        margin: The score's lead over the second task.
        abstained: Whether the text belongs to no task.
        features: Base features that were computed on the way, [width].
    """

    task_id: int
    score: float | None = None
    margin: float = 1.0
    abstained: bool = False
    features: Tensor | None = None


@torch.no_grad()
def answer(queries: Sequence[Query]) -> list[Answer]:
    """Answer texts, in their order.

    Args:
        queries: As many as shall share a pass; versions of one base and precision do.
    """
    answers: dict[int, Answer] = {}
    for places in _grouped(
        range(len(queries)),
        lambda i: (id(queries[i].version.base), queries[i].version.precision),
    ).values():
        answered = _Batch([queries[i] for i in places]).answers()
        answers.update(zip(places, answered, strict=True))
    return [answers[place] for place in range(len(queries))]


@torch.no_grad()
def class_logits(queries: Sequence[Query]) -> list[Tensor]:
    """Logits over all classes of each query's version, each [classes]; every task must be named."""
    batch = _Batch(queries)
    routed = batch.route()
    return batch.logits(routed, batch.features(routed))


class _Batch:
    """Queries to versions of one base and precision."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self.queries = queries
        self.base: FrozenBase = queries[0].version.base
        self.autocast = queries[0].version.autocast
        self.tokens: TokenizedRows = self.base.tokens(
            [query.text for query in queries], [query.version.max_length for query in queries]
        )

    def answers(self) -> list[Answer]:
        """Route, compute, answer."""
        routed = self.route()
        logits = self.logits(routed, self.features(routed))
        lengths = self.tokens.lengths.tolist()
        return [
            _answer(query, place, row, length)
            for query, place, row, length in zip(self.queries, routed, logits, lengths, strict=True)
        ]

    def route(self) -> list[_Routed]:
        """Where each query goes, with one pass of the base for those that name no task."""
        routed = [_Routed(0 if query.task_id is None else query.task_id) for query in self.queries]
        inferred = [i for i, query in enumerate(self.queries) if query.task_id is None]
        for version, rows, features in self._base_features(inferred):
            scores = version.router.scores(features)
            best = scores.task_scores.exp().max(dim=1)
            for place, i in enumerate(rows):
                routed[i] = _Routed(
                    task_id=int(best.indices[place]),
                    score=float(best.values[place]),
                    margin=float(scores.margin[place]),
                    abstained=float(scores.in_scope[place]) < version.threshold,
                    features=features[place],
                )
        return routed

    def features(self, routed: Sequence[_Routed]) -> list[Tensor | None]:
        """What each query's heads read, [dim]; None where the text was rejected."""
        features = [
            place.features if query.version.model.reads_base_features else None
            for query, place in zip(self.queries, routed, strict=True)
        ]
        left = [i for i, place in enumerate(routed) if not place.abstained and features[i] is None]
        groups = _grouped(left, lambda i: _engine(self.queries[i].version))
        for _, rows, some in self._base_features(groups.get("base", [])):
            features = _put(features, rows, some)
        if stacked := groups.get("slots", []):
            slots = [self.queries[i].version.slots[routed[i].task_id] for i in stacked]
            chosen = torch.tensor(slots, device=self.base.device)
            with self.autocast():
                some = self.base.adapted_features(self._inputs(stacked), chosen)
            features = _put(features, stacked, some)
        own = _grouped(
            groups.get("own", []),
            lambda i: (id(self.queries[i].version), self._activated(i, routed[i])),
        )
        for rows in own.values():
            version, task_id = self.queries[rows[0]].version, routed[rows[0]].task_id
            with version.lock, self.autocast():
                version.stack.activate(version.model, task_id)
                some = version.model.features(self._inputs(rows))
            features = _put(features, rows, some)
        return features

    def logits(self, routed: Sequence[_Routed], features: Sequence[Tensor | None]) -> list[Tensor]:
        """Logits over all classes of each query's version, each [classes]; empty where rejected."""
        logits = [torch.zeros(0)] * len(routed)
        kept = [i for i, row in enumerate(features) if row is not None and not routed[i].abstained]
        for rows in _grouped(kept, lambda i: id(self.queries[i].version)).values():
            stacked = torch.stack([row for i in rows if (row := features[i]) is not None])
            for i, row in zip(rows, self.queries[rows[0]].version.logits(stacked), strict=True):
                logits[i] = row.cpu()
        return logits

    def _inputs(self, rows: Sequence[int]) -> dict[str, Tensor]:
        return self.tokens.batch(rows, self.base.device).inputs

    def _base_features(
        self, rows: Sequence[int]
    ) -> Iterable[tuple[ServedVersion, list[int], Tensor]]:
        """Base features of some rows by version, from one pass over all of them."""
        if not rows:
            return
        inputs = self._inputs(rows)
        with self.autocast():
            states = self.base.hidden_states(inputs)
        groups = _grouped(range(len(rows)), lambda at: id(self.queries[rows[at]].version))
        for places in groups.values():
            version = self.queries[rows[places[0]]].version
            layers = version.model.route_layers
            features = self.base.route_features(states, inputs["attention_mask"], layers)
            yield version, [rows[at] for at in places], features[places]

    def _activated(self, row: int, place: _Routed) -> int | None:
        """The task whose parameters must be active, or None where all tasks share them."""
        return place.task_id if self.queries[row].version.model.has_task_adapters else None


def _engine(version: ServedVersion) -> str:
    if version.model.reads_base_features:
        return "base"
    return "slots" if version.slots else "own"


def _answer(query: Query, place: _Routed, logits: Tensor, num_tokens: int) -> Answer:
    version = query.version
    if place.abstained:
        score = 0.0 if place.score is None else place.score
        return Answer(None, [], None, version.number, score, place.margin, True, num_tokens)
    over_all = query.task_id is None and version.layout == "growing"
    class_ids = version.class_ids(None if over_all else place.task_id)
    probs = logits[class_ids].double().softmax(dim=0)
    best = probs.topk(min(2, len(probs)))
    winner = class_ids[int(best.indices[0])]
    score, margin = 1.0 if place.score is None else place.score, place.margin
    task_id = place.task_id
    if over_all:
        task_id = version.task_of(winner)
        score = float(best.values[0])
        margin = score - (float(best.values[1]) if len(probs) > 1 else 0.0)
    return Answer(
        label=version.manifest.labels[winner],
        probs=probs.tolist(),
        task=version.tasks[task_id].name,
        version=version.number,
        score=score,
        margin=margin,
        abstained=False,
        num_tokens=num_tokens,
    )


def _put(
    features: Sequence[Tensor | None], rows: Sequence[int], some: Tensor
) -> list[Tensor | None]:
    """The features with those of some rows filled in."""
    filled = list(features)
    for i, row in zip(rows, some, strict=True):
        filled[i] = row
    return filled


def _grouped(items: Iterable[int], key: Callable[[int], Key]) -> dict[Key, list[int]]:
    groups: dict[Key, list[int]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
