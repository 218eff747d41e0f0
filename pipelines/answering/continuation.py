"""Text continued by a version of a language model: no server, no Ray."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ratchet.pipelines.data.segments import encode_segments, join_segments
from ratchet.pipelines.data.tokens import collate_rows
from ratchet.pipelines.errors import DataError, Problem
from ratchet.pipelines.models.causal_lm import CausalLM
from ratchet.pipelines.spec.update_spec import EvaluationSpec
from ratchet.pipelines.types import route_tasks
from ratchet.pipelines.version import LoadedVersion, load_version

ROWS_PER_PASS = 16


@dataclass(frozen=True)
class Continuation:
    """How a text goes on.

    Attributes:
        completion: What the model added.
        task: The task whose parameters answered; None where all tasks share them and none was
            named.
        version: The version that answered.
    """

    completion: str
    task: str | None
    version: int


def continue_texts(
    folder: Path, texts: Sequence[str], task_id: int | None, device: torch.device
) -> list[Continuation]:
    """The greedy continuation of each text.

    Where tasks have parameters of their own and none is named, each text's task is inferred from
    the untouched base, as in an evaluation; no text is rejected.

    Args:
        folder: The version's folder.
        texts: Prompts, used as they are.
        task_id: The task of all of them, or None.
        device: Where the model goes.

    Raises:
        DataError: A text that leaves no room in the model's context.
        VersionError: The version is broken.
    """
    version = load_version(folder)
    model = version.model.to(device).eval()
    assert isinstance(model, CausalLM), "predict() asks for no other"
    room = EvaluationSpec().max_new_tokens
    prompts = _prompts(model, texts, min(room, model.context // 2))
    routes = _routes(version, prompts, task_id)
    found: dict[int, str] = {}
    for route in sorted(set(routes), key=lambda place: -1 if place is None else place):
        if route is not None:
            version.stack.activate(model, route)
        members = [place for place, own in enumerate(routes) if own == route]
        for start in range(0, len(members), ROWS_PER_PASS):
            some = members[start : start + ROWS_PER_PASS]
            tokens = model.generate([prompts[place] for place in some], room)
            for place, ids in zip(some, tokens, strict=True):
                found[place] = str(model.tokenizer.decode(ids, skip_special_tokens=True))
    names = version.manifest.task_names
    return [
        Continuation(
            completion=found[place],
            task=None if route is None else names[route],
            version=version.manifest.version,
        )
        for place, route in enumerate(routes)
    ]


def _prompts(model: CausalLM, texts: Sequence[str], room: int) -> list[torch.Tensor]:
    """Token ids of each text, [tokens] int64.

    Raises:
        DataError: A text that leaves no room for an answer.
    """
    given = [join_segments([text, ""]) for text in texts]
    tokens, lengths = encode_segments(given, model.tokenizer, model.context + 1)
    prompts = [-1 - ids[ids < 0].long() for ids in torch.from_numpy(tokens).split(lengths.tolist())]
    limit = model.context - room
    problems = [
        Problem(
            f"text {place + 1}",
            f"it has {len(prompt)} tokens or more, and the model reads {model.context}, of which "
            f"{room} are kept for the answer",
            hint="Shorten it",
        )
        for place, prompt in enumerate(prompts)
        if len(prompt) > limit
    ]
    if problems:
        raise DataError(problems)
    return prompts


def _routes(
    version: LoadedVersion, prompts: Sequence[torch.Tensor], task_id: int | None
) -> list[int | None]:
    """The task whose parameters answer each prompt; None where all tasks share them."""
    if task_id is not None or not version.model.has_task_adapters:
        return [task_id] * len(prompts)
    router = version.router.fit(route_tasks(version.tasks))
    marked = [(-1 - prompt).int() for prompt in prompts]
    none = torch.zeros(len(prompts), dtype=torch.int64)
    batch = collate_rows(marked, none, none, version.model.device, marked=True)
    features = version.model.base_features(batch.inputs).cpu()
    return [int(task) for task in router.scores(features).task_scores.argmax(dim=-1)]
