"""Rows made into tokens once, and put together into padded batches without a loop over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ratchet.pipelines.data.segments import encode_segments
from ratchet.pipelines.types import Batch

_TEXTS_PER_CALL = 4096


class TokenizedRows:
    """Rows of one split as tokens, all in memory.

    Args:
        tokens: The tokens of all rows, one after the other, [tokens], int32.
        offsets: Where each row starts in `tokens`, and where the last one ends, [rows + 1], int64.
        targets: Class ids over the lineage's label list, [rows], int64.
        task_ids: The task of each row, [rows], int64.
        texts: The text of each row, for replay.
        marked: Whether tokens tell what is learned; see `encode_segments`.
    """

    def __init__(
        self,
        tokens: Tensor,
        offsets: Tensor,
        targets: Tensor,
        task_ids: Tensor,
        texts: Sequence[str],
        marked: bool = False,
    ) -> None:
        self.marked = marked
        self.tokens = tokens
        self.offsets = offsets
        self.targets = targets
        self.task_ids = task_ids
        self.texts = texts

    def __len__(self) -> int:
        return int(self.targets.shape[0])

    @property
    def lengths(self) -> Tensor:
        """Tokens of each row, [rows], int64."""
        return self.offsets.diff()

    def batch(self, rows: Tensor | Sequence[int], device: torch.device | str = "cpu") -> Batch:
        """The rows at these indices, padded to the longest of them, or to one token if none."""
        index = torch.as_tensor(rows, dtype=torch.int64)
        starts = self.offsets[index]
        return collate(
            self.tokens,
            starts,
            self.offsets[index + 1] - starts,
            self.targets[index],
            self.task_ids[index],
            index,
            device,
            self.marked,
        )

    def first(self, count: int) -> TokenizedRows:
        """The first rows, as views."""
        return TokenizedRows(
            tokens=self.tokens[: int(self.offsets[count])],
            offsets=self.offsets[: count + 1],
            targets=self.targets[:count],
            task_ids=self.task_ids[:count],
            texts=self.texts[:count],
            marked=self.marked,
        )

    def shuffled(self, generator: np.random.Generator) -> Tensor:
        """The indices of all rows in random order, [rows], int64."""
        return torch.from_numpy(generator.permutation(len(self)))

    def by_length(self) -> Tensor:
        """The indices of all rows from the shortest to the longest, [rows], int64."""
        return torch.argsort(self.lengths, stable=True)

    @staticmethod
    def concatenate(parts: Sequence[TokenizedRows]) -> TokenizedRows:
        """The rows of several splits, one split after the other."""
        sizes = torch.tensor([0, *(len(part.tokens) for part in parts)])
        starts = sizes.cumsum(0)
        ends = [part.offsets[1:] + start for part, start in zip(parts, starts, strict=False)]
        return TokenizedRows(
            tokens=torch.cat([torch.zeros(0, dtype=torch.int32), *(p.tokens for p in parts)]),
            offsets=torch.cat([torch.zeros(1, dtype=torch.int64), *ends]),
            targets=torch.cat([torch.zeros(0, dtype=torch.int64), *(p.targets for p in parts)]),
            task_ids=torch.cat([torch.zeros(0, dtype=torch.int64), *(p.task_ids for p in parts)]),
            texts=list(chain.from_iterable(part.texts for part in parts)),
            marked=any(part.marked for part in parts),
        )


def collate(
    tokens: Tensor,
    starts: Tensor,
    lengths: Tensor,
    targets: Tensor,
    task_ids: Tensor,
    rows: Tensor,
    device: torch.device | str,
    marked: bool = False,
) -> Batch:
    """A padded batch of rows that lie in flat `tokens`, each from its start for its length.

    Of marked rows, the inputs say which tokens are learned: `completion_mask`, [rows, seq].
    """
    num_rows = int(lengths.shape[0])
    width = int(lengths.max()) if num_rows else 1
    columns = torch.arange(max(width, 1))
    mask = (columns < lengths[:, None]).long()
    places = (starts[:, None] + columns).clamp_(max=max(len(tokens) - 1, 0))
    ids = tokens[places].long() * mask if num_rows else mask
    inputs = {"input_ids": ids, "attention_mask": mask}
    if marked:
        learned = (ids >= 0).long() * mask
        inputs = {
            "input_ids": torch.where(ids < 0, -1 - ids, ids),
            "attention_mask": mask,
            "completion_mask": learned,
        }
    return Batch(
        inputs={name: tensor.to(device) for name, tensor in inputs.items()},
        targets=targets.to(device),
        weights=torch.ones(num_rows, device=device),
        task_ids=task_ids.to(device),
        rows=rows.to(device),
        parts={"new": slice(0, num_rows)},
    )


def collate_rows(
    tokens: Sequence[Tensor],
    targets: Tensor,
    task_ids: Tensor,
    device: torch.device | str,
    marked: bool = False,
) -> Batch:
    """A padded batch of rows that are in no split, each given by its own tokens."""
    lengths = torch.tensor([len(row) for row in tokens], dtype=torch.int64)
    flat = torch.cat([torch.zeros(0, dtype=torch.int32), *tokens])
    rows = torch.full((len(tokens),), -1)
    starts = lengths.cumsum(0) - lengths
    return collate(flat, starts, lengths, targets, task_ids, rows, device, marked)


def encode(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    marked: bool = False,
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of all texts, flat, int32, and how many each has, int64."""
    if marked:
        return encode_segments(texts, tokenizer, max_length)
    flat: list[np.ndarray] = []
    lengths: list[int] = []
    for start in range(0, len(texts), _TEXTS_PER_CALL):
        ids: list[list[int]] = tokenizer(
            list(texts[start : start + _TEXTS_PER_CALL]),
            truncation=True,
            max_length=max_length,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]
        lengths += map(len, ids)
        flat.append(np.fromiter(chain.from_iterable(ids), dtype=np.int32))
    tokens = np.concatenate([np.zeros(0, np.int32), *flat])
    return tokens, np.asarray(lengths, dtype=np.int64)


def tokenize(
    texts: Sequence[str],
    targets: Sequence[int] | Tensor,
    task_ids: Sequence[int] | Tensor,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    marked: bool = False,
) -> TokenizedRows:
    """Texts as tokens, truncated to `max_length`; done once, before training.

    Texts are handed to the tokenizer some thousands at a time: it splits each call over the
    processor's threads (one in a forked process), and the tokens of all texts never stand in lists.
    """
    tokens, lengths = encode(texts, tokenizer, max_length, marked)
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    return TokenizedRows(
        tokens=torch.from_numpy(tokens),
        offsets=torch.from_numpy(offsets),
        targets=torch.as_tensor(targets, dtype=torch.int64),
        task_ids=torch.as_tensor(task_ids, dtype=torch.int64),
        texts=texts,
        marked=marked,
    )


def tokens_of(
    texts: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    marked: bool = False,
) -> list[Tensor]:
    """The tokens of each text, [tokens] int32."""
    tokens, lengths = encode(texts, tokenizer, max_length, marked)
    return list(torch.from_numpy(tokens).split(lengths.tolist()))
