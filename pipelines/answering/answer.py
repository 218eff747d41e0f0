"""Answers a batch of texts of any tasks and versions: route, reject, then one pass for labels.

At most one pass of the frozen base for the texts whose task must be inferred, and one pass through
all adapters together for those that are answered. Versions with a backbone of their own cost a pass
each. A text that names no task is answered by its version's rule (`registry/answer_rule.py`); where
features are a task's own, the two most probable tasks are asked when the first does not lead by
far.
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
from ratchet.pipelines.evaluation.answer_experts import (
    Experts,
    experts_asked,
    experts_of,
    pair_log_probs,
)
from ratchet.pipelines.models.prototype_router import RouteScores
from ratchet.pipelines.registry.answer_rule import AnswerBy

SURE_MARGIN = 0.9
"""Lead of the most probable task from which the second one is not asked."""

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
class _Route:
    """What the router says of a text that names no task.

    Attributes:
        scores: Of the text alone, each field with one row.
        abstained: Whether the text belongs to no task.
        features: Base features that were computed on the way, [width].
    """

    scores: RouteScores
    abstained: bool
    features: Tensor

    @property
    def asked(self) -> list[int]:
        """The most probable tasks, two where the first does not lead by far."""
        probable = self.scores.task_scores[0].topk(min(2, self.scores.task_scores.shape[1]))
        sure = float(self.scores.margin[0]) >= SURE_MARGIN
        return [int(task) for task in probable.indices[: 1 if sure else 2]]


@dataclass(frozen=True)
class _Ask:
    """A task that is asked what it says of a query's text.

    Attributes:
        query: Place of the query.
        task_id: The task.
        features: Base features of the text, [width], where they are known.
    """

    query: int
    task_id: int
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
    return batch.logits([_Ask(i, _named(query)) for i, query in enumerate(queries)])


@torch.no_grad()
def what_experts_say(version: ServedVersion, texts: Sequence[str]) -> tuple[Experts, Tensor]:
    """What each expert of a version says of texts that name no task, whichever rule it answers by.

    Args:
        version: The version.
        texts: As many as shall share a pass.

    Returns:
        The experts, and the in-scope score of each text, [rows].
    """
    batch = _Batch([Query(text, version, None) for text in texts])
    routes = batch.routes()
    rows = list(range(len(texts)))
    scores = _joined([routes[i].scores for i in rows])
    asks = [ask for i in rows for ask in batch.asks(i, routes[i], by="mixture")]
    experts = _experts(version, scores, rows, asks, batch.logits(asks))
    return experts, scores.in_scope


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
        routes = self.routes()
        asks: list[_Ask] = []
        for i, query in enumerate(self.queries):
            if query.task_id is not None:
                asks.append(_Ask(i, query.task_id))
            elif not routes[i].abstained:
                asks += self.asks(i, routes[i], query.version.rule.by)
        logits = self.logits(asks)
        lengths = self.tokens.lengths.tolist()
        answers = {
            ask.query: _of_task(self.queries[ask.query], row, lengths[ask.query])
            for ask, row in zip(asks, logits, strict=True)
            if self.queries[ask.query].task_id is not None
        }
        for i, route in routes.items():
            if route.abstained:
                answers[i] = _rejected(self.queries[i].version, route, lengths[i])
        left = [i for i in routes if not routes[i].abstained]
        for rows in _grouped(left, lambda i: id(self.queries[i].version)).values():
            version = self.queries[rows[0]].version
            scores = _joined([routes[i].scores for i in rows])
            experts = _experts(version, scores, rows, asks, logits)
            found = _inferred(version, scores, experts, [lengths[i] for i in rows])
            answers.update(zip(rows, found, strict=True))
        return [answers[i] for i in range(len(self.queries))]

    def routes(self) -> dict[int, _Route]:
        """Where each query that names no task goes, with one pass of the base for all of them."""
        routes: dict[int, _Route] = {}
        inferred = [i for i, query in enumerate(self.queries) if query.task_id is None]
        for version, rows, features in self._base_features(inferred):
            scores = _on_host(version.router.scores(features))
            rejected = (scores.in_scope < version.threshold).tolist()
            for place, i in enumerate(rows):
                routes[i] = _Route(_row(scores, place), rejected[place], features[place])
        return {i: routes[i] for i in inferred}

    def asks(self, row: int, route: _Route, by: AnswerBy) -> list[_Ask]:
        """Who must be asked about a text that names no task, so that a rule can answer it."""
        version = self.queries[row].version
        if by == "prototypes":
            return []
        features = route.features if version.model.reads_base_features else None
        asked = route.asked
        if by != "mixture" or not version.has_task_features:
            asked = asked[:1]
        return [_Ask(row, task_id, features) for task_id in asked]

    def logits(self, asks: Sequence[_Ask]) -> list[Tensor]:
        """What the heads say where tasks are asked, each [classes] of the query's version."""
        features = self._features(asks)
        logits = [torch.zeros(0)] * len(asks)
        for places in _grouped(range(len(asks)), lambda a: id(self._version(asks[a]))).values():
            stacked = torch.stack([features[place] for place in places])
            found = self._version(asks[places[0]]).logits(stacked).cpu()
            for place, row in zip(places, found, strict=True):
                logits[place] = row
        return logits

    def _features(self, asks: Sequence[_Ask]) -> list[Tensor]:
        """What the heads read, each [dim]."""
        found = {a: ask.features for a, ask in enumerate(asks) if ask.features is not None}
        left = [a for a in range(len(asks)) if a not in found]
        groups = _grouped(left, lambda a: _engine(self._version(asks[a])))
        of_base = {asks[a].query: a for a in groups.get("base", [])}
        for _, rows, some in self._base_features(list(of_base)):
            found |= {of_base[i]: row for i, row in zip(rows, some, strict=True)}
        if stacked := groups.get("slots", []):
            slots = [self._version(asks[a]).slots[asks[a].task_id] for a in stacked]
            chosen = torch.tensor(slots, device=self.base.device)
            with self.autocast():
                some = self.base.adapted_features(
                    self._inputs([asks[a].query for a in stacked]), chosen
                )
            found |= dict(zip(stacked, some, strict=True))
        own = _grouped(
            groups.get("own", []), lambda a: (id(self._version(asks[a])), self._activated(asks[a]))
        )
        for places in own.values():
            version, task_id = self._version(asks[places[0]]), asks[places[0]].task_id
            with version.lock, self.autocast():
                version.stack.activate(version.model, task_id)
                some = version.model.features(self._inputs([asks[a].query for a in places]))
            found |= dict(zip(places, some, strict=True))
        return [found[a] for a in range(len(asks))]

    def _version(self, ask: _Ask) -> ServedVersion:
        return self.queries[ask.query].version

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

    def _activated(self, ask: _Ask) -> int | None:
        """The task whose parameters must be active, or None where all tasks share them."""
        return ask.task_id if self._version(ask).model.has_task_adapters else None


def _engine(version: ServedVersion) -> str:
    if version.model.reads_base_features:
        return "base"
    return "slots" if version.slots else "own"


def _experts(
    version: ServedVersion,
    scores: RouteScores,
    rows: Sequence[int],
    asks: Sequence[_Ask],
    logits: Sequence[Tensor],
) -> Experts:
    """What the experts of a version say of some queries, in their order."""
    places = {row: place for place, row in enumerate(rows)}
    mine = [a for a, ask in enumerate(asks) if ask.query in places]
    if not version.has_task_features and len(mine) == len(rows):
        order = sorted(mine, key=lambda a: places[asks[a].query])
        return experts_of(version.choices, scores, torch.stack([logits[a] for a in order]))
    asked = [
        (
            task_id,
            torch.tensor([places[asks[a].query] for a in some]),
            torch.stack([logits[a] for a in some]),
        )
        for task_id, some in _grouped(mine, lambda a: asks[a].task_id).items()
    ]
    return experts_asked(version.choices, scores, asked)


def _inferred(
    version: ServedVersion, scores: RouteScores, experts: Experts, lengths: Sequence[int]
) -> list[Answer]:
    """The answers to texts that named no task and were not rejected."""
    choices = version.choices
    pairs = pair_log_probs(experts, choices, version.rule)
    labels = choices.by_label(pairs).exp()
    best = labels.argmax(dim=1)
    # The task that the label is most probably one of, and how probable that task is.
    of_label = pairs.masked_fill(choices.labels[None, :] != best[:, None], -torch.inf)
    tasks = choices.tasks[of_label.argmax(dim=1)]
    routed = version.rule.by == "routed"
    probable = (scores.task_scores if routed else choices.by_task(pairs)).exp()
    answers = []
    for place, length in enumerate(lengths):
        task_id, row = int(tasks[place]), probable[place]
        score = float(row[task_id])
        others = torch.cat([row[:task_id], row[task_id + 1 :]])
        answers.append(
            Answer(
                label=choices.names[int(best[place])],
                probs=labels[place].tolist(),
                task=version.tasks[task_id].name,
                version=version.number,
                score=score,
                margin=score - (float(others.max()) if len(others) else 0.0),
                abstained=False,
                num_tokens=length,
            )
        )
    return answers


def _of_task(query: Query, logits: Tensor, num_tokens: int) -> Answer:
    """The answer to a text whose task was named."""
    version, task_id = query.version, _named(query)
    class_ids = version.class_ids(task_id)
    probs = logits[class_ids].double().softmax(dim=0)
    return Answer(
        label=version.manifest.labels[class_ids[int(probs.argmax())]],
        probs=probs.tolist(),
        task=version.tasks[task_id].name,
        version=version.number,
        score=1.0,
        margin=1.0,
        abstained=False,
        num_tokens=num_tokens,
    )


def _rejected(version: ServedVersion, route: _Route, num_tokens: int) -> Answer:
    """The answer to a text that belongs to no task."""
    score = float(route.scores.task_scores[0].exp().max())
    margin = float(route.scores.margin[0])
    return Answer(None, [], None, version.number, score, margin, True, num_tokens)


def _named(query: Query) -> int:
    assert query.task_id is not None, "the task is named"
    return query.task_id


def _on_host(scores: RouteScores) -> RouteScores:
    return RouteScores(
        scores.task_scores.cpu(),
        scores.class_distances.cpu(),
        scores.margin.cpu(),
        scores.in_scope.cpu(),
    )


def _row(scores: RouteScores, place: int) -> RouteScores:
    """What a router says of one row."""
    one = slice(place, place + 1)
    return RouteScores(
        scores.task_scores[one],
        scores.class_distances[one],
        scores.margin[one],
        scores.in_scope[one],
    )


def _joined(rows: Sequence[RouteScores]) -> RouteScores:
    return RouteScores(
        torch.cat([row.task_scores for row in rows]),
        torch.cat([row.class_distances for row in rows]),
        torch.cat([row.margin for row in rows]),
        torch.cat([row.in_scope for row in rows]),
    )


def _grouped(items: Iterable[int], key: Callable[[int], Key]) -> dict[Key, list[int]]:
    groups: dict[Key, list[int]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return groups
