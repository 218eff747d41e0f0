"""What one replica does: names to versions, texts to answers, and the registry watched.

Nothing here knows Ray. Whoever holds a replica says how a text gets into a batch.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import torch

from ratchet.pipelines.answering.answer import Answer, Query
from ratchet.pipelines.answering.frozen_base import BaseShelf
from ratchet.pipelines.answering.served_version import ServedVersion
from ratchet.pipelines.registry.manifest import Manifest
from ratchet.pipelines.registry.registry import Registry
from ratchet.service.errors import OutOfScopeError, UnavailableError, UnknownModelError
from ratchet.service.schemas.classify import (
    ClassifyRequest,
    ClassifyResponse,
    Health,
    LineageHealth,
    ModelCard,
    ModelList,
    Usage,
)
from ratchet.service.serving.classification import classification
from ratchet.service.serving.home import ServedHome
from ratchet.service.serving.lineage import ServedLineage, open_lineage
from ratchet.service.serving.routing import AUTO, Target, resolve
from ratchet.service.serving.watcher import POLL_SECONDS, Watcher

Ask = Callable[[Query], Awaitable[Answer]]


class Replica:
    """Serves lineages from a home.

    Args:
        home: Where the versions lie.
        lineages: What to serve; None serves every lineage from its first champion on.
        device: Where models compute.
        poll_seconds: How often the registry is looked at.

    Raises:
        NotFoundError: A lineage that does not exist or has no champion.
        VersionError: A lineage of which no champion can be loaded.
    """

    def __init__(
        self,
        home: Path,
        lineages: Sequence[str] | None,
        device: torch.device,
        poll_seconds: float = POLL_SECONDS,
    ) -> None:
        registry, shelf = Registry(home), BaseShelf(device)
        self.served = ServedHome(
            registry, lambda name: open_lineage(registry, name, shelf), lineages
        )
        self.watcher = Watcher(self.served, poll_seconds)

    @property
    def lineages(self) -> Mapping[str, ServedLineage]:
        """What is served at this moment."""
        return self.served.lineages

    async def classify(self, request: ClassifyRequest, ask: Ask) -> ClassifyResponse:
        """Answer a request.

        Args:
            request: What was asked.
            ask: Answers one text, together with whatever else waits.

        Raises:
            ServiceError: The model is unknown or broken, there is no place for it, or a strict
                request has text out of scope.
        """
        target = self._resolve(request.model)
        lineage = self.lineages[target.lineage]
        version = await _leased(lineage, target.version)
        try:
            task_id = _task_id(request.model, version, target)
            answers = await asyncio.gather(
                *(ask(Query(text, version, task_id)) for text in request.input)
            )
        finally:
            lineage.give_back(version)
        if request.strict:
            _refuse_rejected(answers)
        tokens = sum(found.num_tokens for found in answers)
        return ClassifyResponse(
            id=f"classify-{uuid.uuid4().hex}",
            created=int(time.time()),
            model=request.model,
            data=[classification(index, found) for index, found in enumerate(answers)],
            usage=Usage(prompt_tokens=tokens, total_tokens=tokens),
        )

    def models(self) -> ModelList:
        """Everything that a request can name without a version."""
        cards: list[ModelCard] = []
        lineages = self.lineages
        for lineage in lineages.values():
            manifest = lineage.manifest
            if len(lineages) == 1:
                cards.append(_card(AUTO, manifest, manifest.label_names))
            cards.append(_card(lineage.name, manifest, manifest.label_names))
            for task in manifest.tasks:
                labels = [manifest.labels[index] for index in task["class_ids"]]
                cards.append(_card(task["name"], manifest, labels))
        return ModelList(data=cards)

    def health(self) -> Health:
        """Which versions answer, and what is wrong."""
        lineages = [
            LineageHealth(
                lineage=lineage.name,
                serving=lineage.serving,
                champion=lineage.champion,
                resident=lineage.resident(),
                refused={str(n): refusal.reason for n, refusal in lineage.refused.items()},
            )
            for lineage in self.lineages.values()
        ]
        lineages += [
            LineageHealth(lineage=name, refused={"": refusal.reason})
            for name, refusal in self.served.refused.items()
        ]
        watching = self.watcher.is_watching
        fine = watching and all(
            one.serving is not None and one.champion == one.serving for one in lineages
        )
        return Health(status="ok" if fine else "degraded", watching=watching, lineages=lineages)

    def close(self) -> None:
        """Stop watching and free every version."""
        self.watcher.stop()
        self.served.close()

    def _resolve(self, model: str) -> Target:
        """The target of a request; the disk is looked at only for a name not known yet."""
        if not self.lineages:
            raise UnavailableError(
                "model: no lineage has a champion yet; the first one that is promoted answers here",
                "model",
            )
        try:
            return resolve(model, self.served.views())
        except UnknownModelError:
            self.served.look_again()
            return resolve(model, self.served.views())


async def _leased(lineage: ServedLineage, number: int | None) -> ServedVersion:
    """A lease on a version; one that must be loaded is loaded in a thread, others go on."""
    version = lineage.take_resident(number)
    if version is not None:
        return version
    loading = asyncio.ensure_future(asyncio.to_thread(lineage.take, number))
    try:
        return await asyncio.shield(loading)
    except asyncio.CancelledError:
        loading.add_done_callback(lambda done: _give_back_late(lineage, done))
        raise


def _give_back_late(lineage: ServedLineage, loading: asyncio.Future[ServedVersion]) -> None:
    """End the lease that a request has no use for any more."""
    if not loading.cancelled() and loading.exception() is None:
        lineage.give_back(loading.result())


def _task_id(model: str, version: ServedVersion, target: Target) -> int | None:
    if target.task is None:
        return None
    task_id = version.task_id(target.task)
    if task_id is None:
        raise UnknownModelError(
            f"model: {model!r} names the task {target.task!r}, and version {version.number} of "
            f"{version.lineage}, which answers, has only {', '.join(version.manifest.task_names)}",
            "model",
        )
    return task_id


def _refuse_rejected(answers: Sequence[Answer]) -> None:
    rejected = [index for index, found in enumerate(answers) if found.abstained]
    if rejected:
        raise OutOfScopeError(
            f"input: {len(rejected)} of {len(answers)} texts belong to no task, at the places "
            f"{', '.join(map(str, rejected))}; name a task, or send strict: false to have them "
            "answered with label: null",
            "input",
        )


def _card(name: str, manifest: Manifest, labels: Sequence[str]) -> ModelCard:
    return ModelCard(
        id=name,
        created=int(manifest.created),
        root=f"{manifest.lineage}@{manifest.version}",
        parent=manifest.base_model["name"],
        labels=list(labels),
    )
