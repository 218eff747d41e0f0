"""Covers, beside `predict`: `continuation`."""

import pytest

from ratchet.pipelines.answering.predict import predict
from ratchet.pipelines.errors import NotFoundError
from tests.tiny import TASKS, texts_of


def test_texts_are_answered_in_their_order(lineages):
    texts = texts_of("weather", 20) + texts_of("alarm", 20)
    alone = [predict(lineages, "columns@2", [text], "home")[0].probs for text in texts[::13]]
    together = predict(lineages, "columns@2", texts, "home")
    assert len(together) == 40
    for one, row in zip(alone, together[::13], strict=True):
        assert row.probs == pytest.approx(one, abs=2e-2)
    assert {row.label for row in together} <= set(TASKS["home"])


def test_the_champion_answers_where_no_version_is_named(lineages):
    assert predict(lineages, "columns", ["money"])[0].version == 2
    assert predict(lineages, "columns@1", ["money"])[0].version == 1


@pytest.mark.parametrize(
    ("reference", "task", "said"),
    [
        ("column", None, "Did you mean columns"),
        ("columns@7", None, "there is no version 7"),
        ("columns", "bankin", "Did you mean 'banking'"),
    ],
)
def test_what_does_not_exist_is_said_with_the_nearest_name(lineages, reference, task, said):
    with pytest.raises(NotFoundError, match=said):
        predict(lineages, reference, ["money"], task)
