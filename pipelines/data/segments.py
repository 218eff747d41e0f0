"""A row of a language model as one string: what is given and what is learned, in turns.

Segments are joined by a control character: prompt, completion, prompt, completion and so on. A
string without it is raw text, learned throughout. One string a row is what held-out rows, replay
memory and rows on disk hold already.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import cast

import numpy as np
from transformers import PreTrainedTokenizerBase

SEPARATOR = "\x1e"
"""Stands between segments; data that hold it are refused."""

_TEXTS_PER_CALL = 1024


def join_segments(segments: Iterable[str]) -> str:
    """Segments, from the first prompt on, as the string of a row."""
    return SEPARATOR.join(segments)


def is_raw(text: str) -> bool:
    """Whether a row is raw text, learned throughout."""
    return SEPARATOR not in text


def last_completion(text: str) -> str:
    """What a row ends with: its last learned segment, or all of a raw text."""
    return text.rsplit(SEPARATOR, 1)[-1]


def encode_segments(
    texts: Sequence[str], tokenizer: PreTrainedTokenizerBase, max_length: int
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all rows, flat, int32, and how many each has, int64.

    A token that is given and not learned is stored as -1 - id. Segments are tokenized one by one,
    so that a prompt has the same tokens with and without its completion; an end-of-sequence token
    is learned after each completion. A row starts with the tokenizer's own first token, where it
    has one, and is cut at `max_length`.
    """
    end = cast("int", tokenizer.eos_token_id)
    start = first_tokens(tokenizer)
    rows: list[list[int]] = []
    for first in range(0, len(texts), _TEXTS_PER_CALL):
        parts = [text.split(SEPARATOR) for text in texts[first : first + _TEXTS_PER_CALL]]
        ids = iter(plain_tokens(list(chain.from_iterable(parts)), tokenizer))
        rows += [
            _marked([next(ids) for _ in segments], start, end)[:max_length] for segments in parts
        ]
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return np.fromiter(chain.from_iterable(rows), np.int32, int(lengths.sum())), lengths


def plain_tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """The tokens of each text and nothing more."""
    if not texts:
        return []
    return tokenizer(
        texts,
        add_special_tokens=False,
        padding=False,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )["input_ids"]


def first_tokens(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that the tokenizer puts before every text, if it does."""
    found: list[int] = tokenizer("a", verbose=False)["input_ids"]
    has_one = tokenizer.bos_token_id is not None and found[:1] == [tokenizer.bos_token_id]
    return found[:1] if has_one else []


def _marked(segments: list[list[int]], start: list[int], end: int) -> list[int]:
    if segments[0][: len(start)] != start:  # chat templates write it themselves
        segments[0] = start + segments[0]
    if len(segments) == 1:
        return segments[0]
    return [
        token
        for place, ids in enumerate(segments)
        for token in ([*ids, end] if place % 2 else [-1 - token for token in ids])
    ]
