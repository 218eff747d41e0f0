"""Row outcomes as tests need them: so many rows right, so many turned."""

from __future__ import annotations

from ratchet.pipelines.evaluation.anchors import Anchor
from ratchet.pipelines.evaluation.flips import pack_right
from ratchet.pipelines.evaluation.row_outcomes import RowOutcomes


def bits(text):
    return pack_right(int(letter) for letter in text)


def outcomes(own, served=None, other=None, rejected=None, rows="hash"):
    """Outcomes from letters, 1 for yes and 0 for no."""
    given = (None if text is None else bits(text) for text in (served, other, rejected))
    return RowOutcomes(rows, bits(own), *given)


def right(number, of=200, served=None, rows="hash"):
    """So many rows right, the first ones."""
    by_auto = None if served is None else "1" * served + "0" * (of - served)
    return outcomes("1" * number + "0" * (of - number), by_auto, rows=rows)


def turned(before, lost, gained=0):
    """The same with so many right rows wrong, and so many wrong ones right, by either measure."""
    changed = {}
    for measure in ("own", "served"):
        now = before.right(measure)
        if now is not None:
            yes, no = now.nonzero()[0][:lost], (~now).nonzero()[0][:gained]
            now[yes], now[no] = False, True
            changed[measure] = pack_right(now)
    return RowOutcomes(before.rows, changed["own"], changed.get("served"))


def anchor(task, own, version=1):
    return Anchor(task, version, own)
