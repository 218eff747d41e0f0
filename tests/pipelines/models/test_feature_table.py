from contextlib import nullcontext

import torch
from torch import nn

from ratchet.pipelines.models.feature_table import FeatureTable, feature_table
from ratchet.pipelines.training.workers import SingleWorker
from tests.conformance.groups import in_group
from tests.pipelines.methods.contexts import batch_of


class Doubling(nn.Module):
    device = torch.device("cpu")

    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.5)

    def features(self, inputs):
        return 2 * self.dropout(inputs["input_ids"])


def table_of(workers, numbers):
    model = Doubling()
    mine = range(workers.rank, len(numbers), workers.world_size)
    batches = []
    for row in mine:
        batches.append(batch_of([numbers[row]], [0], first_row=row))
    table = feature_table(model, model.features, len(numbers), batches, workers, nullcontext)
    assert model.training
    return table


def test_every_row_is_computed_without_dropout():
    assert table_of(SingleWorker(), [1.0, 2.0, 3.0]).tolist() == [[2.0], [4.0], [6.0]]


def test_workers_compute_a_share_each_and_all_have_the_whole(tmp_path):
    for numbers in ([1.0, 2.0, 3.0], [5.0]):  # with one row the second worker has none
        for table in in_group(2, tmp_path / str(len(numbers)), table_of, numbers):
            assert table.tolist() == [[2 * number] for number in numbers]


def test_known_rows_are_looked_up_and_appended_ones_computed():
    computed = []

    def compute(inputs):
        computed.append(inputs["input_ids"].shape[0])
        return 10 * inputs["input_ids"]

    table = FeatureTable(torch.tensor([[0.0], [1.0], [2.0]]), compute)
    batch = batch_of([7.0, 7.0], [0, 0], first_row=1)
    assert table.features(batch).tolist() == [[1.0], [2.0]]
    assert computed == []
    mixed = batch.extended("replay", batch_of([3.0], [0]))
    assert table.features(mixed).tolist() == [[1.0], [2.0], [30.0]]
    assert computed == [1]
