"""The check before a version goes live: it answers rows that it carries as it was trained to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ratchet.pipelines.answering.answer import Query, answer, class_logits, what_experts_say
from ratchet.pipelines.answering.served_version import ServedVersion
from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.version import load_version, read_held_out

ROWS_PER_TASK = 2
MAX_ROWS = 32
TOLERANCE = 1e-3


@torch.no_grad()
def check_golden(version: ServedVersion, folder: Path) -> None:
    """Check a loaded version on a few validation rows of its tasks, in float32.

    Versions that share the base (adapters in a bank, the analytic head) are compared with the model
    that `load_version` builds; those that run that very model need finite numbers of the right
    shape.

    The route of the same rows, inferred, must be finite too.

    Raises:
        VersionError: An answer has another shape, is not finite, or differs.
    """
    queries = _golden_queries(replace(version, precision="fp32"), folder)
    experts, in_scope = what_experts_say(version, [query.text for query in queries])
    if not bool(in_scope.isfinite().all()) or bool(experts.classes.isnan().any()):
        raise VersionError(f"{folder} fails its check: the route of a text is not finite")
    for found in answer([replace(query, task_id=None) for query in queries]):
        if not math.isfinite(found.score + found.margin + sum(found.probs)):
            raise VersionError(f"{folder} fails its check: the answer to a text is not finite")
    answers = class_logits(queries)
    num_classes = len(version.class_ids(None))
    for query, logits in zip(queries, answers, strict=True):
        if logits.shape != (num_classes,) or not bool(logits.isfinite().all()):
            raise VersionError(
                f"{folder} fails its check: logits of shape {list(logits.shape)} for {num_classes} "
                f"classes of {version.tasks[query.task_id or 0].name}, or not all of them finite"
            )
    if version.slots or version.model.reads_base_features:
        _compare(folder, version, queries, answers)


def _golden_queries(version: ServedVersion, folder: Path) -> list[Query]:
    """Some validation rows of every task; the newest tasks where there are too many."""
    queries = [
        Query(text, version, task.id)
        for task in reversed(version.tasks)
        for text in (read_held_out(folder, task.id).validation or [task.name])[:ROWS_PER_TASK]
    ]
    return queries[:MAX_ROWS]


def _compare(
    folder: Path, version: ServedVersion, queries: Sequence[Query], answers: Sequence[Tensor]
) -> None:
    trained = load_version(folder, verify=False)
    model = trained.model.eval()
    for query, logits in zip(queries, answers, strict=True):
        assert query.task_id is not None, "golden queries name their task"
        trained.stack.activate(model, query.task_id)
        rows = version.base.tokens([query.text], [version.max_length])
        expected = version.scaled(model(rows.batch([0]).inputs).logits[0])
        difference = float((logits - expected).abs().max())
        if difference > TOLERANCE * max(1.0, float(expected.abs().max())):
            raise VersionError(
                f"{folder} fails its check: served, {query.text!r} gets logits that differ by "
                f"{difference:.2g} from those of the trained model"
            )
