"""How a version answers a request that names no task: which of its experts speaks, and how loud."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

from ratchet.pipelines.files.formats import checked
from ratchet.pipelines.files.json_value import JsonObject

AnswerBy = Literal["heads", "routed", "prototypes", "mixture"]


@dataclass(frozen=True)
class AnswerRule:
    """What decides the label of a request to `auto`.

    Attributes:
        by: `heads`: one softmax over the heads of all tasks. `routed`: the heads of the task that
            the router names. `prototypes`: the router's class statistics alone. `mixture`: the
            product of experts below, summed over the tasks that share a label.
        own: Weight of log p(label | task, x), of the heads over each task's own labels.
        tasks: Weight of log p(task | x), of the router's task statistics.
        classes: Weight of log p(label | x), of the router's class statistics.
        heads: Weight of log p(label | x), of one softmax over all heads.
        accuracy: What each way reached on the validation rows that it was chosen by, without
            rejection; empty where it was not chosen by any.
        num_rows: How many rows these were.
    """

    by: AnswerBy
    own: float = 1.0
    tasks: float = 1.0
    classes: float = 1.0
    heads: float = 0.05
    accuracy: Mapping[str, float] = field(default_factory=dict)
    num_rows: int = 0

    def as_dict(self) -> JsonObject:
        """Plain JSON values, as a manifest keeps them."""
        return asdict(self)

    @staticmethod
    def from_dict(raw: JsonObject, where: str) -> AnswerRule:
        """The rule that `as_dict` described; `where` it stands, for the message.

        Raises:
            VersionError: It is no rule.
        """
        return checked(AnswerRule, raw, where, "restore the version from a copy")
