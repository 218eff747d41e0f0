import pytest
import torch

from ratchet.pipelines.types import Output
from tests.pipelines.methods.contexts import TASK, Logistic, batch_of, context_of


def test_the_task_loss_is_a_weighted_mean():
    logits = torch.tensor([[2.0, 0.0], [0.0, 1.0]])
    batch = batch_of([1.0, 1.0], [0, 0])
    batch.weights.copy_(torch.tensor([3.0, 1.0]))
    one, two = (-logits.log_softmax(-1)[:, 0]).tolist()
    ctx = context_of(Logistic(1), [], [TASK])
    found = ctx.task_loss(batch, Output(logits, logits))
    assert float(found) == pytest.approx((3 * one + two) / 4)
