import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ratchet.pipelines.evaluation.example_history import ExampleHistory
from ratchet.pipelines.evaluation.metrics import forgetting_events


def after(looks):
    history = ExampleHistory.of(len(looks[0]))
    for look in looks:
        history.look(torch.tensor(look, dtype=torch.bool))
    return history


def test_events_counted_by_hand():
    looks = [[1, 0, 1, 0], [0, 0, 1, 1], [1, 0, 1, 1], [0, 0, 1, 0]]
    # right-wrong-right-wrong; never right: the number of looks; always; lost once
    assert after(looks).counts().tolist() == [2, 4, 0, 1]


@given(arrays(bool, st.tuples(st.integers(1, 6), st.integers(1, 5))))
def test_counting_look_by_look_equals_the_definition(looks):
    assert np.array_equal(after(looks.tolist()).counts().numpy(), forgetting_events(looks))


def test_a_history_goes_on_from_its_state():
    looks = [[1, 0, 1], [0, 1, 1], [1, 0, 0]]
    history = ExampleHistory.from_state(after(looks[:2]).state_dict())
    history.look(torch.tensor(looks[2], dtype=torch.bool))
    assert history.counts().tolist() == after(looks).counts().tolist()
