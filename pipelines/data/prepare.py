"""Rows made ready for training: in memory where they fit the budget, else on disk by Ray Data."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.data.blocks import BlockTexts, Layout, file_path, write_file, write_texts
from ratchet.pipelines.data.rows import JoinedTexts, TakenTexts
from ratchet.pipelines.data.streamed import (
    StreamedRows,
    column_path,
    fingerprint_of,
    write_manifest,
)
from ratchet.pipelines.data.tokens import encode, tokenize
from ratchet.pipelines.errors import DataError, Problem

Encoder = Callable[[Sequence[str]], tuple[np.ndarray, np.ndarray]]
"""Texts -> their tokens, flat, and how many each has."""

_STRING_BYTES = 60
"""What a Python string and its place in a list take beyond its characters."""


def prepare_rows(
    texts: Sequence[str],
    targets: Sequence[int] | Tensor,
    task_ids: Sequence[int] | Tensor,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    memory_budget_mb: float,
    folder: Path,
    marked: bool = False,
    session: ExitStack | None = None,
) -> BatchRows:
    """Tokenize the rows of one split, once, before training; called by the driver.

    Rows within the budget become `TokenizedRows`. For more, Ray Data tokenizes to Parquet in
    `folder` and the result is `StreamedRows`. Both pickle; the latter as the folder's path alone.

    Args:
        texts: The text of each row.
        targets: Class ids over the lineage's label list, [rows].
        task_ids: The task of each row, [rows].
        tokenizer: A fast tokenizer.
        max_length: Tokens to keep of a row.
        memory_budget_mb: Megabytes that the texts and tokens may take.
        folder: Where rows over the budget go; every node must see it. What lies there already is
            used again if it was made of the same input, and removed if not.
        marked: Whether the rows are a language model's; see `encode_segments`.
        session: Ends the Ray that is started where none runs, so that several calls share one; by
            default it ends with this call.
    """
    budget = memory_budget_mb * 1e6
    size = estimated_bytes(texts)
    if size <= budget:
        kept = texts if isinstance(texts, list) else list(texts)
        return tokenize(kept, targets, task_ids, tokenizer, max_length, marked)
    layout = fitting_layout(size / len(texts), budget)
    return stream_rows(
        texts,
        targets,
        task_ids,
        tokenizer,
        max_length,
        layout=layout,
        folder=folder,
        marked=marked,
        session=session,
    )


def stream_rows(
    texts: Sequence[str],
    targets: Sequence[int] | Tensor,
    task_ids: Sequence[int] | Tensor,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    *,
    layout: Layout,
    folder: Path,
    marked: bool = False,
    session: ExitStack | None = None,
) -> StreamedRows:
    """Tokenize rows to Parquet with Ray Data, whatever their size; see `prepare_rows`."""
    columns = {
        "targets": np.asarray(targets, dtype=np.int64),
        "task_ids": np.asarray(task_ids, dtype=np.int64),
    }
    fingerprint = _fingerprint(texts, columns, tokenizer, (max_length, layout, marked))
    if fingerprint_of(folder) != fingerprint:
        shutil.rmtree(folder, ignore_errors=True)
        written = write_texts(texts, folder / "texts", layout)
        encoder = partial(encode, tokenizer=tokenizer, max_length=max_length, marked=marked)
        with ExitStack() as own:
            _use_ray(session or own)
            _tokenize_on_disk(folder, len(texts), layout, encoder)
        columns["lengths"] = _lengths(folder, len(texts), layout)
        for name, column in columns.items():
            np.save(column_path(folder, name), column)
        write_manifest(folder, len(texts), written.num_bytes, layout, fingerprint, marked)
    return StreamedRows(folder)


def estimated_bytes(texts: Sequence[str]) -> int:
    """What texts and their tokens take in memory, roughly: as many token bytes as characters."""
    if isinstance(texts, JoinedTexts):
        return sum(map(estimated_bytes, texts.parts))
    if isinstance(texts, TakenTexts) and isinstance(texts.texts, BlockTexts):
        whole = texts.texts
        num_characters = whole.num_bytes * len(texts) // max(len(whole), 1)
    elif isinstance(texts, BlockTexts):
        num_characters = texts.num_bytes
    else:
        num_characters = sum(map(len, texts))
    return 2 * num_characters + _STRING_BYTES * len(texts)


def fitting_layout(bytes_per_row: float, budget_bytes: float) -> Layout:
    """The layout whose blocks in memory take half the budget, with 64 to 1024 rows a block."""
    usual = Layout()
    rows_per_block = int(budget_bytes / 2 / usual.blocks_in_memory / bytes_per_row)
    return Layout(rows_per_block=max(64, min(usual.rows_per_block, rows_per_block)))


def _fingerprint(
    texts: Sequence[str],
    columns: dict[str, NDArray[np.int64]],
    tokenizer: PreTrainedTokenizerBase,
    settings: tuple[int, Layout, bool],
) -> str:
    digest = hashlib.blake2b(repr((len(texts), *settings)).encode(), digest_size=16)
    digest.update(_tokenizer_settings(tokenizer).encode())
    for column in columns.values():
        digest.update(column.tobytes())
    for text in texts:
        digest.update(text.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def _tokenizer_settings(tokenizer: PreTrainedTokenizerBase) -> str:
    """All that makes tokens but truncation and padding, which each call sets anew."""
    settings = json.loads(getattr(tokenizer, "backend_tokenizer").to_str())  # noqa: B009
    return json.dumps({**settings, "truncation": None, "padding": None})


def _use_ray(session: ExitStack) -> None:
    """The Ray that runs, or one of this process's own until the session ends."""
    import ray  # rows in memory do without it

    from ratchet.pipelines.processes.ray_job import InstalledCode

    if not ray.is_initialized():
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # no other process talks to this one
        session.callback(ray.shutdown)
        ray.init(
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
            job_config=InstalledCode(),
        )


def _tokenize_on_disk(folder: Path, num_rows: int, layout: Layout, encoder: Encoder) -> None:
    """Tokenize every file of texts, as many at a time as the cluster has processors.

    Ray Data hands out the numbers of files and not their rows: each file of texts becomes the file
    of tokens of the same number, so that where a row lies needs no index.
    """
    import ray.data

    (folder / "tokens").mkdir()
    num_files = layout.num_files(num_rows)
    files = ray.data.range(num_files, override_num_blocks=num_files)
    files.context.enable_progress_bars = False
    work = partial(_tokenize_files, folder=folder, layout=layout, encoder=encoder)
    # Each task has one processor, so the tokenizer must not take them all.
    environment = {"env_vars": {"TOKENIZERS_PARALLELISM": "false"}}
    files.map_batches(
        cast(Any, work), batch_size=1, num_cpus=1, runtime_env=environment
    ).materialize()


def _tokenize_files(
    batch: dict[str, NDArray[np.int64]],
    folder: Path,
    layout: Layout,
    encoder: Encoder,
) -> dict[str, NDArray[np.int64]]:
    for number in batch["id"].tolist():
        path = file_path(folder / "texts", number)
        if not path.exists():
            raise DataError(
                [
                    Problem(
                        str(path),
                        "data over the memory budget lie in a folder that every node must see",
                        hint="Set the home to shared storage, or raise `data.memory_budget_mb`",
                    )
                ]
            )
        texts: list[str] = pq.read_table(path).column("text").to_pylist()
        tokens, lengths = encoder(texts)
        offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
        columns: dict[str, pa.Array] = {
            "tokens": pa.ListArray.from_arrays(pa.array(offsets), pa.array(tokens)),
            "length": pa.array(lengths),
        }
        write_file(pa.table(columns), folder / "tokens", number, layout)
    return batch


def _lengths(folder: Path, num_rows: int, layout: Layout) -> NDArray[np.int64]:
    files = [file_path(folder / "tokens", i) for i in range(layout.num_files(num_rows))]
    columns = [pq.read_table(path, columns=["length"]).column(0).to_numpy() for path in files]
    return np.concatenate([np.zeros(0, np.int64), *columns])
