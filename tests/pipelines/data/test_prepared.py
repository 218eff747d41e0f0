import pytest
import torch

from ratchet.pipelines.data.prepared import HeldOut, load_rows, open_rows, save_rows
from ratchet.pipelines.data.tokens import TokenizedRows


@pytest.fixture
def rows():
    return TokenizedRows(
        tokens=torch.tensor([5, 6, 7], dtype=torch.int32),
        offsets=torch.tensor([0, 1, 3]),
        targets=torch.tensor([4, 2]),
        task_ids=torch.tensor([0, 1]),
        texts=["ä", "b c"],
    )


@pytest.mark.parametrize("read", [load_rows, open_rows])
def test_saved_rows_come_back_as_they_were(tmp_path, rows, read):
    save_rows(rows, tmp_path / "data" / "train_000")
    found = read(tmp_path / "data" / "train_000")
    assert found.texts == rows.texts
    for name in ("tokens", "offsets", "targets", "task_ids"):
        assert torch.equal(getattr(found, name), getattr(rows, name))
        assert getattr(found, name).dtype == getattr(rows, name).dtype


@pytest.mark.parametrize(
    ("num_validation", "test"), [(1, slice(1, 2)), (2, slice(0, 2)), (0, slice(0, 2))]
)
def test_test_rows_stand_after_validation_rows_and_are_those_where_there_are_none(
    rows, num_validation, test
):
    held = HeldOut(rows, num_validation)
    assert held.validation == slice(0, num_validation)
    assert held.test == test
