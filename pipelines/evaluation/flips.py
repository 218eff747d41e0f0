"""Which answers an update turned from right to wrong, from what was right after each stage.

Whether each row was right is kept as text, so that a version can carry it to the next update.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Right = Mapping[str, str]


def pack_right(right: Iterable[float]) -> str:
    """Whether each row was right, as `number:hexadecimal bits`."""
    bits = np.array(list(right), dtype=bool)
    return f"{len(bits)}:{np.packbits(bits).tobytes().hex()}"


def unpack_right(text: str) -> Bools:
    """What `pack_right` packed, [rows]."""
    number, _, digits = text.partition(":")
    packed = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8)
    return np.unpackbits(packed, count=int(number)).astype(bool)


SHARES = "shares:"
"""Before answers that are shares, as of the tokens of raw text: two hexadecimal digits a row."""


def pack_scores(scores: Sequence[float]) -> str:
    """How each row was answered, in [0, 1]: as `pack_right`, or in steps of 1/255 where needed."""
    if all(score in (0.0, 1.0) for score in scores):
        return pack_right(scores)
    return SHARES + bytes(round(255 * score) for score in scores).hex()


def unpack_scores(text: str) -> NDArray[np.float64]:
    """What `pack_scores` packed, [rows]."""
    if not text.startswith(SHARES):
        return unpack_right(text).astype(np.float64)
    shares = bytes.fromhex(text.removeprefix(SHARES))
    return np.frombuffer(shares, dtype=np.uint8).astype(np.float64) / 255


def flip_rate(before: Right, after: Right, tasks: Iterable[str]) -> float | None:
    """The share of all rows of some tasks that were right before and are wrong after (Yan 2021).

    Rows count once each, whatever their task. None where there are no rows in both.

    Args:
        before: By task, packed.
        after: By task, packed.
        tasks: The tasks that count; those missing in either are passed over.
    """
    known = [task for task in tasks if task in before and task in after]
    pairs = [(unpack_right(before[task]), unpack_right(after[task])) for task in known]
    same = [(old, new) for old, new in pairs if len(old) == len(new)]
    number = sum(len(old) for old, _ in same)
    return sum(int((old & ~new).sum()) for old, new in same) / number if number else None


def stage_flip_rates(
    rows: Sequence[Right], stages: Sequence[Sequence[str]], champion: Right
) -> list[float | None]:
    """The rate of each stage against the stage before, over the tasks known before it.

    Args:
        rows: By stage and task, packed.
        stages: Names of the tasks of each stage.
        champion: What the version that the update started from got right, by task; empty for none.
    """
    found, known, before = [], list(champion), champion
    for row, taught in zip(rows, stages, strict=True):
        found.append(flip_rate(before, row, known))
        known, before = [*known, *taught], row
    return found


def update_flip_rate(
    rows: Sequence[Right], stages: Sequence[Sequence[str]], champion: Right
) -> float | None:
    """The rate of a whole update: its end against what was known.

    Old tasks are held against the champion, tasks that the update taught before its last stage
    against right after they were learned.
    """
    before = dict(champion)
    for row, taught in zip(rows[:-1], stages[:-1], strict=True):
        before |= {task: row[task] for task in taught}
    return flip_rate(before, rows[-1], before)
