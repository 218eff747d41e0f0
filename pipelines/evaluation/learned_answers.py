"""What the rows of a task were answered right after it was taught: what a later end is held to.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ServedBits:
    """How rows of a task are answered where no task is named, packed by `flips.pack_right`.

    Attributes:
        right: Answered with their label.
        other_task: Answered with a wrong label that their task does not have.
        rejected: Not answered, as text of no task.
    """

    right: str
    other_task: str
    rejected: str


@dataclass(frozen=True)
class LearnedAnswers:
    """The validation rows of a task right after the stage that taught it.

    Attributes:
        own: Right among the task's own labels, packed.
        served: What a request without a task would have got, by each rule; empty where `auto`
            is not served.
    """

    own: str
    served: Mapping[str, ServedBits] = field(default_factory=dict)
