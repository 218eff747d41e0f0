"""Covers `answers`, `recipes`, `segments`.

Data of language models: segments, marked tokens, recipes, answers.
"""

import json

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratchet.pipelines.data.recipes import LanguageData
from ratchet.pipelines.data.segments import SEPARATOR, encode_segments, join_segments
from ratchet.pipelines.data.sources import read_rows
from ratchet.pipelines.data.stream import load_stream
from ratchet.pipelines.data.tokens import collate_rows, tokenize, tokens_of
from ratchet.pipelines.errors import DataError
from ratchet.pipelines.spec.update_spec import ColumnsSpec
from tests.tiny_lm import (
    tiny_lm_spec,
    trained_tokenizer,
    write_closed_task,
    write_open_task,
    write_rows,
    write_text_task,
)


@pytest.fixture(scope="module")
def tokenizer():
    return trained_tokenizer()


def read(path, tokenizer, max_length=32):
    return read_rows(str(path), ColumnsSpec(), None, LanguageData(tokenizer, max_length))


def test_prompts_are_given_completions_and_their_end_are_learned(tokenizer):
    (row,) = tokens_of([join_segments(["the rain", " weather"])], tokenizer, 32, True)
    prompt = tokenizer("the rain").input_ids  # with the token that starts every text
    answer = tokenizer(" weather", add_special_tokens=False).input_ids
    assert row.tolist() == [*(-1 - token for token in prompt), *answer, tokenizer.eos_token_id]
    batch = collate_rows([row, row[:-1]], torch.zeros(2), torch.zeros(2), "cpu", marked=True)
    assert batch.inputs["input_ids"][0].tolist() == [*prompt, *answer, tokenizer.eos_token_id]
    learned = [0] * len(prompt) + [1] * (len(answer) + 1)
    assert batch.inputs["completion_mask"][0].tolist() == learned
    assert batch.inputs["completion_mask"][1].tolist() == [*learned[:-1], 0]  # padding is no token
    assert batch.inputs["attention_mask"][1].tolist() == [1] * (len(learned) - 1) + [0]


def test_raw_text_is_learned_throughout(tokenizer):
    (row,) = tokens_of(["the rain"], tokenizer, 32, True)
    assert row.tolist() == tokenizer("the rain").input_ids


def test_a_prompt_has_the_same_tokens_whatever_follows(tokenizer):
    texts = [join_segments(["to the", end]) for end in ("re", " way", "")]
    rows = tokens_of(texts, tokenizer, 32, True)
    assert len({tuple(row[row < 0].tolist()) for row in rows}) == 1


def test_an_extended_batch_learns_no_padding(tokenizer):
    rows = tokenize(
        ["the rain", join_segments(["the", " sunny weather today"])],
        [0, 0],
        [0, 0],
        tokenizer,
        32,
        True,
    )
    both = rows.batch([0]).extended("replay", rows.batch([1]))
    assert both.inputs["completion_mask"].shape == both.inputs["input_ids"].shape
    outside = both.inputs["attention_mask"] == 0
    assert outside.any()
    assert both.inputs["completion_mask"][outside].sum() == 0


WORDS = st.text(st.sampled_from("ab cd\n.é日"), min_size=1, max_size=400)


@settings(max_examples=60, suppress_health_check=list(HealthCheck))
@given(text=WORDS, max_length=st.integers(4, 20))
def test_blocks_hold_the_whole_text_and_fit(tokenizer, text, max_length):
    recipe = LanguageData(tokenizer, max_length, "text").recipe(ColumnsSpec(), ["text"])
    rows = recipe.rows([text])
    if not text.strip():
        return
    blocks = [block for _, block, _ in rows]
    assert "".join("".join(blocks).split()) == "".join(text.split())
    again = tokenizer(blocks).input_ids
    assert max(map(len, again)) <= max_length


def test_blocks_of_words_have_the_same_tokens_as_the_text(tokenizer):
    text = "please tell me about the rain and my account today . " * 20
    recipe = LanguageData(tokenizer, 16, "text").recipe(ColumnsSpec(), ["text"])
    blocks = [block for _, block, _ in recipe.rows([text])]
    tokens = [t for ids in tokenizer(blocks, add_special_tokens=False).input_ids for t in ids]
    assert "".join(blocks) == text
    assert tokens == tokenizer(text, add_special_tokens=False).input_ids
    _, lengths = encode_segments(blocks, tokenizer, 1000)
    assert lengths.max() <= 16
    assert lengths[:-1].min() >= 12  # blocks are filled


def test_a_text_file_becomes_blocks_that_know_their_line(tmp_path, tokenizer):
    path = tmp_path / "a.txt"
    path.write_text("the rain\n\nmy account today is good\n" * 10, encoding="utf-8")
    rows, problems = read(path, tokenizer, 8)
    assert problems == []
    assert "".join(rows.texts) == path.read_text()
    assert rows.origins[0].endswith("a.txt:1")
    assert rows.origins[len(rows) - 1].endswith(":30")


def test_the_format_is_found_by_the_columns(tmp_path, tokenizer):
    pairs = write_rows(tmp_path / "p.jsonl", [{"prompt": "a", "completion": " b"}])
    text = write_rows(tmp_path / "t.jsonl", [{"text": "the rain"}])
    assert list(read(pairs, tokenizer)[0].texts) == ["a" + SEPARATOR + " b"]
    assert list(read(pairs, tokenizer)[0].labels) == [" b"]
    assert list(read(text, tokenizer)[0].texts) == ["the rain"]


def test_every_answer_of_a_chat_is_learned(tmp_path, tokenizer):
    chat = [
        {"role": "user", "content": "rain"},
        {"role": "assistant", "content": "weather"},
        {"role": "user", "content": "money"},
        {"role": "assistant", "content": "account"},
    ]
    rows, problems = read(write_rows(tmp_path / "c.jsonl", [{"messages": chat}]), tokenizer)
    assert problems == []
    wanted = ["<|user|>rain</s><|assistant|>", "weather"]
    wanted += ["</s><|user|>money</s><|assistant|>", "account"]
    assert rows.texts[0].split(SEPARATOR) == wanted


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"prompt": "a" + SEPARATOR, "completion": "b"}, "U+001E"),
        ({"prompt": "a", "completion": " "}, "empty text (column 'completion')"),
        ({"prompt": "a", "completion": 3}, "must be a string"),
        ({"question": "a", "answer": "b"}, "the columns there are: 'question', 'answer'"),
        ({"messages": []}, "list of messages"),
        ({"messages": [{"role": "user", "content": "a"}]}, "nothing to learn"),
        ({"messages": [{"role": "assistant", "content": " "}]}, "empty answer"),
        ({"messages": "hello"}, "list of messages"),
        ({"text": " "}, "empty text"),
    ],
    ids=str,
)
def test_broken_rows_are_named(tmp_path, tokenizer, row, message):
    path = write_rows(tmp_path / "a.jsonl", [row])
    rows, (problem,) = read(path, tokenizer)
    assert len(rows) == 0
    assert message in str(problem)


def test_chats_need_a_template(tmp_path):
    plain = trained_tokenizer(template=False)
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    path = write_rows(tmp_path / "c.jsonl", [{"messages": chat}])
    (problem,) = read(path, plain)[1]
    assert "this model's tokenizer has none" in str(problem)


def test_a_template_that_rewrites_earlier_turns_is_refused(tmp_path):
    odd = trained_tokenizer()
    odd.chat_template = (
        "{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"
    )
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    (problem,) = read(write_rows(tmp_path / "c.jsonl", [{"messages": chat}]), odd)[1]
    assert "writes earlier turns differently" in str(problem)


def labels_of(model, folder, tasks, tokenizer):
    spec = tiny_lm_spec(model, folder, "lm", tasks, [])
    return {task.name: task.labels for task in load_stream(spec, tokenizer=tokenizer).tasks}


def test_few_frequent_completions_are_a_closed_set(tmp_path, tokenizer):
    closed = write_closed_task(tmp_path, "banking", ["balance", "transfer"])
    tasks = [
        closed,
        write_open_task(tmp_path, "first", 0),
        write_text_task(tmp_path, "raw"),
        closed | {"name": "free", "answers": "open"},
    ]
    found = labels_of("tiny/decoder", tmp_path, tasks, tokenizer)
    assert found == {
        "banking": (" balance", " transfer"),
        "first": ("first",),
        "raw": ("raw",),
        "free": ("free",),
    }


def test_a_closed_task_refuses_answers_that_training_does_not_have(tmp_path, tokenizer):
    task = write_closed_task(tmp_path, "banking", ["balance", "transfer"])
    strange = {"prompt": "the rain =", "completion": " balanse"}
    task["test"] = write_rows(tmp_path / "strange.jsonl", [strange])
    with pytest.raises(DataError, match=r"unknown label ' balanse'.*Did you mean ' balance'"):
        labels_of("tiny/decoder", tmp_path, [task], tokenizer)


def numbered(folder, num_rows, num_answers):
    """A task of so many different completions, said to be closed."""
    rows = [
        {"prompt": f"the rain {n} =", "completion": f" way {n % num_answers}"}
        for n in range(num_rows)
    ]
    train = write_rows(folder / "train.jsonl", rows)
    validation = write_rows(folder / "validation.jsonl", rows[-3:])
    return {"name": "many", "answers": "closed", "train": train, "validation": validation}


@pytest.mark.parametrize("splits", [("train",), ("train", "validation")], ids=len)
def test_more_answers_than_half_the_rows_are_no_closed_set(tmp_path, tokenizer, splits):
    task = numbered(tmp_path, 40, 21)
    task = {key: value for key, value in task.items() if key in ("name", "answers", *splits)}
    with pytest.raises(DataError) as caught:
        labels_of("tiny/decoder", tmp_path, [task], tokenizer)
    (problem,) = caught.value.problems
    assert problem.where == "task many"
    assert "40 rows hold 21 different ones; at most 20 are allowed" in problem.message
    assert problem.hint == "Set answers: open"


def test_as_many_answers_as_half_the_rows_are_a_closed_set(tmp_path, tokenizer):
    found = labels_of("tiny/decoder", tmp_path, [numbered(tmp_path, 40, 20)], tokenizer)
    assert len(found["many"]) == 20


def test_raw_text_is_no_closed_set(tmp_path, tokenizer):
    task = write_text_task(tmp_path, "raw") | {"answers": "closed"}
    with pytest.raises(DataError, match=r"task raw: answers: closed needs completions.*raw text"):
        labels_of("tiny/decoder", tmp_path, [task], tokenizer)


def test_tasks_of_a_language_model_may_share_answers_and_have_one(tmp_path, tokenizer):
    tasks = [write_closed_task(tmp_path, name, ["positive", "negative"]) for name in ("a", "b")]
    only = [{"prompt": f"the rain {n} =", "completion": " yes"} for n in range(12)]
    tasks.append({"name": "c", "train": write_rows(tmp_path / "c.jsonl", only)})
    found = labels_of("tiny/decoder", tmp_path, tasks, tokenizer)
    assert found["a"] == found["b"] == (" negative", " positive")
    assert found["c"] == ("c",)


def test_text_files_beside_data_are_notes(tmp_path, tokenizer):
    (tmp_path / "README.txt").write_text("what this is")
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": "a", "completion": " b"}) + "\n")
    rows, problems = read(tmp_path, tokenizer)
    assert problems == []
    assert len(rows) == 1
