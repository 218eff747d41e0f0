"""Covers, beside `streamed`: `blocks`, `spill`."""

import pickle
from itertools import chain

import pytest
import ray
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from ratchet.pipelines.data.batching import num_steps, ordered_batches, training_batches
from ratchet.pipelines.data.blocks import Layout
from ratchet.pipelines.data.prepare import prepare_rows, stream_rows
from ratchet.pipelines.data.prepared import open_rows
from ratchet.pipelines.data.streamed import StreamedRows
from ratchet.pipelines.data.tokens import TokenizedRows, tokenize

pytestmark = pytest.mark.slow

WORDS = ["one", "two", "three", "four", "five", "six", "seven"]
NUM_ROWS = 237
TEXTS = [" ".join(WORDS[(i + j) % 7] for j in range(1 + (i * 5) % 11)) for i in range(NUM_ROWS)]
TARGETS = [i * 3 for i in range(NUM_ROWS)]
TASK_IDS = [i // 100 for i in range(NUM_ROWS)]
TINY = Layout(rows_per_block=4, blocks_per_file=10, blocks_per_group=5)


@pytest.fixture(scope="module")
def tokenizer():
    numbers = {"[PAD]": 0, "[UNK]": 1} | {word: i for i, word in enumerate(WORDS, start=2)}
    base = Tokenizer(models.WordLevel(numbers, unk_token="[UNK]"))
    base.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=base, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture(scope="module")
def in_memory(tokenizer):
    return tokenize(TEXTS, TARGETS, TASK_IDS, tokenizer, 8)


@pytest.fixture(scope="module")
def cluster():
    if ray.is_initialized():
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_AUTH_MODE", "disabled")
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        yield
        ray.shutdown()


@pytest.fixture(scope="module")
def streamed(cluster, tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows") / "train"
    return stream_rows(TEXTS, TARGETS, TASK_IDS, tokenizer, 8, layout=TINY, folder=folder)


def steps_of(rows, **options) -> list[list[int]]:
    options = {"batch_size": 8, "seed": 0, "epoch": 0} | options
    return [batch.rows.tolist() for batch in training_batches(rows, **options)]


@given(
    batch_size=st.integers(1, 40),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 3),
    share=st.floats(0, 1),
)
@settings(max_examples=25)
def test_streamed_rows_come_once_an_epoch_over_all_workers_from_any_step(
    streamed, batch_size, world_size, epoch, share
):
    options = {"batch_size": batch_size, "epoch": epoch}
    alone = steps_of(streamed, **options)
    assert len(alone) == num_steps(NUM_ROWS, batch_size)
    assert sorted(chain.from_iterable(alone)) == list(range(NUM_ROWS))
    start = round(share * len(alone))
    shares = [
        steps_of(streamed, **options, rank=rank, world_size=world_size, start_step=start)
        for rank in range(world_size)
    ]
    for whole, *parts in zip(alone[start:], *shares, strict=True):
        assert sorted(chain.from_iterable(parts)) == sorted(whole)


def test_streamed_batches_equal_those_made_in_memory(streamed, in_memory):
    assert len(streamed) == len(in_memory)
    for name in ("targets", "task_ids", "lengths"):
        assert torch.equal(getattr(streamed, name), getattr(in_memory, name))
    for batch in training_batches(streamed, batch_size=7, seed=3, epoch=1):
        expected = in_memory.batch(batch.rows)
        assert batch.parts == expected.parts
        for name in ("targets", "weights", "task_ids", "rows"):
            assert torch.equal(getattr(batch, name), getattr(expected, name))
        for name, tensor in expected.inputs.items():
            assert torch.equal(batch.inputs[name], tensor)


def test_the_streamed_order_depends_on_seed_and_epoch_and_mixes_blocks(streamed):
    assert steps_of(streamed) == steps_of(streamed)
    assert steps_of(streamed) != steps_of(streamed, epoch=1)
    first = list(chain.from_iterable(steps_of(streamed, batch_size=NUM_ROWS)))
    assert first != sorted(first)
    blocks = {row // TINY.rows_per_block for row in steps_of(streamed, batch_size=20)[0]}
    assert len(blocks) > 5


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_streamed_pass_in_order_gives_every_row_once(streamed, world_size):
    shares = [
        list(ordered_batches(streamed, batch_size=10, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    batches = list(chain.from_iterable(shares))
    assert sorted(row for batch in batches for row in batch.rows.tolist()) == list(range(NUM_ROWS))
    padded = sum(batch.inputs["input_ids"].numel() for batch in batches)
    assert padded < 1.7 * int(streamed.lengths.sum())


def test_texts_are_looked_up_by_row(streamed):
    assert list(streamed.texts) == TEXTS
    assert [streamed.texts[row] for row in (236, 0, 100, -1)] == [
        TEXTS[row] for row in (236, 0, 100, -1)
    ]
    with pytest.raises(IndexError, match="row 237 of 237"):
        streamed.texts[NUM_ROWS]


def test_few_blocks_are_in_memory(streamed):
    steps_of(streamed)
    assert len(streamed._blocks.values) == TINY.blocks_in_memory == 12
    assert TINY.num_blocks(NUM_ROWS) == 60


def test_only_the_folder_travels_between_processes(streamed):
    packed = pickle.dumps(streamed)
    assert len(packed) < 500
    assert steps_of(pickle.loads(packed)) == steps_of(streamed)
    assert steps_of(open_rows(streamed.folder)) == steps_of(streamed)


def test_a_batch_of_no_streamed_rows_has_one_column(streamed):
    assert streamed.batch([]).inputs["input_ids"].shape == (0, 1)


def test_the_budget_decides(cluster, tokenizer, tmp_path, in_memory):
    def prepare(budget, folder):
        return prepare_rows(
            TEXTS, TARGETS, TASK_IDS, tokenizer, 8, memory_budget_mb=budget, folder=folder
        )

    kept = prepare(1, tmp_path / "a")
    assert isinstance(kept, TokenizedRows)
    assert not (tmp_path / "a").exists()
    streamed = prepare(0.01, tmp_path / "b")
    assert isinstance(streamed, StreamedRows)
    assert torch.equal(streamed.lengths, kept.lengths)


def test_finished_work_is_used_again_and_other_work_is_not(cluster, tokenizer, tmp_path):
    def stream(texts):
        return stream_rows(
            texts, TARGETS[:50], TASK_IDS[:50], tokenizer, 8, layout=TINY, folder=tmp_path / "rows"
        )

    tokens = tmp_path / "rows" / "tokens" / "000000.parquet"
    stream(TEXTS[:50])
    first = tokens.stat().st_mtime_ns
    stream(TEXTS[:50])
    assert tokens.stat().st_mtime_ns == first
    changed = stream([*TEXTS[:49], "six six"])
    assert tokens.stat().st_mtime_ns > first
    assert changed.texts[49] == "six six"
    (tmp_path / "rows" / "rows.json").unlink()
    second = tokens.stat().st_mtime_ns
    stream([*TEXTS[:49], "six six"])
    assert tokens.stat().st_mtime_ns > second
