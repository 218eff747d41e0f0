"""What each task of a lineage is held to, so that a chain of promotions sinks no further than one.

An anchor is kept in the version and compared on the same rows only. Nothing here lowers one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import cast

from ratchet.pipelines.evaluation.row_outcomes import Measure, RowOutcomes, compare
from ratchet.pipelines.files.formats import checked, plain
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.spec.update_spec import GateSpec


@dataclass(frozen=True)
class Anchor:
    """What a task is held to: how its rows were answered when it was known best.

    Attributes:
        task: Name of the task.
        version: The version that answered so among the task's own labels; None for the update that
            is being judged.
        outcomes: The answers, to be compared on the same rows only.
        served_version: The version that `auto` answered so by, where it is another one; None where
            it is `version` too.
    """

    task: str
    version: int | None
    outcomes: RowOutcomes
    served_version: int | None = None

    def version_of(self, measure: Measure) -> int | None:
        """The version whose answers by a measure are held to."""
        if measure == "served" and self.served_version is not None:
            return self.served_version
        return self.version

    def as_dict(self) -> JsonObject:
        """Plain JSON values, as a version keeps them."""
        return cast("JsonObject", plain(asdict(self)))

    @staticmethod
    def from_dict(raw: Json, where: str) -> Anchor:
        """The anchor that `as_dict` wrote.

        Args:
            raw: Plain values.
            where: What they were read from, for the message.

        Raises:
            VersionError: They are no anchor.
        """
        return checked(Anchor, raw, where, "restore the version from a copy")


def next_anchors(
    anchors: Mapping[str, Anchor],
    outcomes: Mapping[str, RowOutcomes],
    version: int,
    taught: Mapping[str, RowOutcomes],
    rule: GateSpec,
) -> dict[str, Anchor]:
    """The anchors of a new champion: those of newly taught tasks, and old ones where it is better.

    An anchor is never lowered. It is raised, for each measure by itself, where the one-sided mid-p
    test shows a gain at `rule.confidence`, so that luck seldom raises it; the test is made anew
    with each promotion and not adjusted for their number, so in a long line it sometimes does. An
    anchor whose rows are not those of `outcomes` stays.

    Args:
        anchors: Those of the lineage before, by task.
        outcomes: The answers of the new champion, by task.
        version: Its number.
        taught: Answers of the tasks that it was taught right after each was learned, those of its
            last stage among them.
        rule: The confidence.
    """
    start = {task: Anchor(task, version, own) for task, own in taught.items()} | dict(anchors)
    return {
        task: _raised(anchor, outcomes[task], version, rule) if task in outcomes else anchor
        for task, anchor in start.items()
    }


def _raised(anchor: Anchor, now: RowOutcomes, version: int, rule: GateSpec) -> Anchor:
    old = anchor.outcomes
    if now.rows != old.rows or now.num_rows < 1:
        return anchor
    served_by = anchor.version_of("served")
    if now.served is not None and (old.served is None or _is_gain(old, now, "served", rule)):
        old = replace(old, served=now.served, other_task=now.other_task, rejected=now.rejected)
        served_by = version
    owned_by = anchor.version
    if _is_gain(old, now, "own", rule):
        old, owned_by = replace(old, own=now.own), version
    elsewhere = old.served is not None and served_by != owned_by
    return Anchor(anchor.task, owned_by, old, served_by if elsewhere else None)


def _is_gain(before: RowOutcomes, now: RowOutcomes, measure: Measure, rule: GateSpec) -> bool:
    return compare(before, now, measure).p_gain() <= 1 - rule.confidence
