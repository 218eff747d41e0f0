from itertools import chain

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ratchet.pipelines.data.batching import num_steps, ordered_batches, training_batches
from ratchet.pipelines.data.tokens import TokenizedRows

SIZES = {
    "num_rows": st.integers(0, 400),
    "batch_size": st.integers(1, 40),
    "world_size": st.integers(1, 5),
}


def rows_of(num_rows: int) -> TokenizedRows:
    """Row i holds its own number as often as it is long."""
    lengths = torch.tensor([1 + (i * 7) % 13 for i in range(num_rows)], dtype=torch.int64)
    numbers = torch.arange(num_rows)
    return TokenizedRows(
        tokens=numbers.repeat_interleave(lengths).to(torch.int32),
        offsets=torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)]),
        targets=numbers * 2,
        task_ids=numbers % 3,
        texts=[f"text {i}" for i in range(num_rows)],
    )


def order_of(rows, **options) -> list[list[int]]:
    options = {"batch_size": 8, "seed": 0, "epoch": 0} | options
    return [batch.rows.tolist() for batch in training_batches(rows, **options)]


@given(**SIZES, seed=st.integers(0, 9), epoch=st.integers(0, 3))
@settings(max_examples=60)
def test_workers_see_every_row_once_an_epoch_and_share_each_step(
    num_rows, batch_size, world_size, seed, epoch
):
    rows = rows_of(num_rows)
    options = {"batch_size": batch_size, "seed": seed, "epoch": epoch}
    shares = [order_of(rows, **options, rank=r, world_size=world_size) for r in range(world_size)]
    alone = order_of(rows, **options)
    assert [len(share) for share in shares] == [num_steps(num_rows, batch_size)] * world_size
    for step, whole in enumerate(alone):
        together = [share[step] for share in shares]
        assert sorted(chain.from_iterable(together)) == sorted(whole)
        counts = [len(share) for share in together]
        assert max(counts) - min(counts) <= 1
        assert len(whole) <= batch_size
    assert sorted(chain.from_iterable(alone)) == list(range(num_rows))


@given(**SIZES)
@settings(max_examples=60)
def test_an_ordered_pass_gives_every_row_once_and_no_empty_batch(num_rows, batch_size, world_size):
    rows = rows_of(num_rows)
    seen = []
    for rank in range(world_size):
        for batch in ordered_batches(rows, batch_size=batch_size, rank=rank, world_size=world_size):
            assert 0 < len(batch) <= batch_size
            seen += batch.rows.tolist()
    assert sorted(seen) == list(range(num_rows))


@given(
    num_rows=st.integers(1, 900),
    batch_size=st.integers(1, 9),
    world_size=st.integers(1, 3),
    share=st.floats(0, 1),
)
@settings(max_examples=60)
def test_starting_at_a_step_gives_the_rest_of_the_epoch(num_rows, batch_size, world_size, share):
    rows = rows_of(num_rows)
    start = round(share * num_steps(num_rows, batch_size))
    for rank in range(world_size):
        options = {"batch_size": batch_size, "rank": rank, "world_size": world_size}
        whole = order_of(rows, **options)
        assert order_of(rows, **options, start_step=start) == whole[start:]


def test_the_order_depends_on_seed_and_epoch_alone():
    rows = rows_of(200)
    assert order_of(rows) == order_of(rows)
    assert order_of(rows) != order_of(rows, epoch=1)
    assert order_of(rows) != order_of(rows, seed=1)


def test_skipped_steps_are_not_built():
    class Counting(TokenizedRows):
        num_built = 0

        def batch(self, rows, device="cpu"):
            self.num_built += 1
            return super().batch(rows, device)

    whole = rows_of(100)
    rows = Counting(whole.tokens, whole.offsets, whole.targets, whole.task_ids, whole.texts)
    assert len(order_of(rows, start_step=10)) == 3
    assert rows.num_built == 3


def test_rows_of_like_length_share_a_batch():
    rows = rows_of(13 * 40)
    batches = list(training_batches(rows, batch_size=8, seed=0, epoch=0))
    padded = sum(batch.inputs["input_ids"].numel() for batch in batches)
    assert padded <= 1.1 * int(rows.lengths.sum())
    widths = [batch.inputs["input_ids"].shape[1] for batch in batches]
    assert widths != sorted(widths)


@pytest.mark.parametrize("world_size", [2, 3])
def test_the_odd_row_goes_round(world_size):
    rows = rows_of(8 * 7)
    sizes = [
        [len(share) for share in order_of(rows, batch_size=7, rank=r, world_size=world_size)]
        for r in range(world_size)
    ]
    totals = [sum(of_rank) for of_rank in sizes]
    assert max(totals) - min(totals) <= 2


@pytest.mark.parametrize(("rows", "batch", "steps"), [(0, 4, 0), (1, 4, 1), (8, 4, 2), (9, 4, 3)])
def test_number_of_steps_counts_the_last_incomplete_one(rows, batch, steps):
    assert num_steps(rows, batch) == steps
