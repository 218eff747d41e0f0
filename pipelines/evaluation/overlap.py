"""ROUGE-L: how much of two texts is the same words in the same order."""

from __future__ import annotations

import re

_WORD = re.compile(r"\w+")


def rouge_l(given: str, wanted: str) -> float:
    """The F-measure of the longest common subsequence of words, in [0, 1].

    Source: Lin 2004, "ROUGE: a package for automatic evaluation of summaries", with equal weight of
    precision and recall. Words are runs of letters and digits, in lower case, not stemmed. Two
    texts without words are the same only where they are equal.
    """
    one, other = (_WORD.findall(text.lower()) for text in (given, wanted))
    if not one or not other:
        return float(given.strip() == wanted.strip())
    common = _common(one, other)
    return 2 * common / (len(one) + len(other))


def _common(one: list[str], other: list[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(other) + 1)
    for word in one:
        above = 0  # the number diagonally above
        for place, theirs in enumerate(other, start=1):
            kept = row[place]
            row[place] = above + 1 if word == theirs else max(kept, row[place - 1])
            above = kept
    return row[-1]
