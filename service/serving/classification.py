"""The answer to a text as a client gets it."""

from __future__ import annotations

from ratchet.pipelines.answering.answer import Answer
from ratchet.service.schemas.classify import Classification, Route


def classification(index: int, found: Answer) -> Classification:
    """An answer as the client gets it.

    Args:
        index: Place of the text in the request.
        found: What the version says of it.
    """
    return Classification(
        index=index,
        label=found.label,
        probs=found.probs,
        num_classes=len(found.probs),
        route=Route(
            task=found.task,
            version=found.version,
            score=found.score,
            margin=found.margin,
            abstained=found.abstained,
        ),
    )
