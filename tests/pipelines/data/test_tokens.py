import pytest
import torch

from ratchet.pipelines.data.tokens import TokenizedRows, tokenize


@pytest.fixture(scope="module")
def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"[PAD]": 0, "[UNK]": 1, "one": 2, "two": 3, "three": 4}
    base = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    base.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=base, pad_token="[PAD]", unk_token="[UNK]")


@pytest.fixture
def rows(tokenizer):
    texts = ["one", "one two three two", "two three"]
    return tokenize(texts, [5, 6, 7], [0, 0, 1], tokenizer, max_length=3)


def test_texts_become_flat_tokens_truncated_to_the_maximum(rows):
    assert rows.tokens.tolist() == [2, 2, 3, 4, 3, 4]
    assert rows.tokens.dtype == torch.int32
    assert rows.offsets.tolist() == [0, 1, 4, 6]
    assert rows.lengths.tolist() == [1, 3, 2]
    assert len(rows) == 3


def test_a_batch_is_padded_to_its_longest_row(rows):
    batch = rows.batch([2, 0])
    assert batch.inputs["input_ids"].tolist() == [[3, 4], [2, 0]]
    assert batch.inputs["attention_mask"].tolist() == [[1, 1], [1, 0]]
    assert batch.inputs["input_ids"].dtype == torch.int64
    assert batch.targets.tolist() == [7, 5]
    assert batch.task_ids.tolist() == [1, 0]
    assert batch.rows.tolist() == [2, 0]
    assert batch.weights.tolist() == [1.0, 1.0]
    assert batch.parts == {"new": slice(0, 2)}


def test_the_last_row_may_be_shorter_than_its_batch(rows):
    assert rows.batch(torch.tensor([1, 2])).inputs["input_ids"].tolist() == [[2, 3, 4], [3, 4, 0]]


def test_a_batch_of_no_rows_has_one_column(rows):
    batch = rows.batch([])
    assert len(batch) == 0
    assert batch.inputs["input_ids"].shape == (0, 1)
    assert batch.parts == {"new": slice(0, 0)}


def test_concatenation_keeps_every_row(rows, tokenizer):
    other = tokenize(["three"], [9], [4], tokenizer, max_length=3)
    joined = TokenizedRows.concatenate([rows, other, rows])
    assert len(joined) == 7
    assert joined.texts == [*rows.texts, "three", *rows.texts]
    assert joined.batch([3, 5]).inputs["input_ids"].tolist() == [[4, 0, 0], [2, 3, 4]]
    assert joined.batch([3, 6]).targets.tolist() == [9, 7]
    assert joined.lengths.tolist() == [1, 3, 2, 1, 1, 3, 2]


def test_no_texts_are_no_rows(tokenizer):
    rows = tokenize([], [], [], tokenizer, max_length=3)
    assert len(rows) == 0
    assert rows.lengths.tolist() == []
    assert len(TokenizedRows.concatenate([])) == 0


def test_many_texts_are_tokenized_in_order(tokenizer):
    words = ["one", "two", "three"]
    texts = [" ".join(words[: 1 + i % 3]) for i in range(9000)]
    rows = tokenize(texts, [0] * 9000, [0] * 9000, tokenizer, max_length=8)
    assert rows.lengths.tolist() == [1 + i % 3 for i in range(9000)]
    assert rows.batch([8999]).inputs["input_ids"].tolist() == [[2, 3, 4]]
