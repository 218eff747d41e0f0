"""Scores of language models against a loop over single texts."""

import math

import pytest
import torch

from ratchet.pipelines.data.segments import join_segments
from ratchet.pipelines.data.tokens import tokenize
from tests.conformance.streams import plan_of, taught
from tests.tiny_lm import write_open_task, write_text_task


@pytest.fixture(scope="module")
def teacher(tiny_decoder, tmp_path_factory):
    """A teacher that has taught a closed, an open and a raw task."""
    folder = tmp_path_factory.mktemp("language")
    tasks = ["banking", write_open_task(folder, "first", 0), write_text_task(folder, "raw")]
    limits = {"max_new_tokens": 5, "max_generated_rows": 3}
    training = {"num_epochs": 12, "learning_rate": 1e-2}
    plan = plan_of(
        tiny_decoder, folder, [], tasks, kind="causal_lm", evaluation=limits, training=training
    )
    teacher = taught(plan)
    teacher.model.eval()
    return teacher


def likelihood(model, text):
    """Summed log-likelihood and hits of a text's learned tokens, and how many there are."""
    batch = tokenize([text], [0], [0], model.tokenizer, 64, True).batch([0])
    with torch.no_grad():
        logits = model(batch.inputs).logits[0]
    ids, learned = batch.inputs["input_ids"][0], batch.inputs["completion_mask"][0].bool()
    places = [place for place in range(1, len(ids)) if learned[place]]
    scores = [float(logits[place - 1].log_softmax(-1)[ids[place]]) for place in places]
    hits = [int(logits[place - 1].argmax() == ids[place]) for place in places]
    return sum(scores), sum(hits), len(places)


@pytest.mark.parametrize("task", [0, 1, 2])
@pytest.mark.parametrize("split", ["validation", "test"])
def test_perplexity_and_token_accuracy(teacher, task, split):
    held = teacher.data.held_out[task]
    texts = held.rows.texts[getattr(held, split)]
    found = [likelihood(teacher.model, text) for text in texts]
    count = sum(number for _, _, number in found)
    scores = teacher.scores[-1][teacher.job.tasks[task].name]
    wanted = math.exp(-sum(total for total, _, _ in found) / count)
    assert scores[f"{split}_perplexity"] == pytest.approx(wanted, rel=1e-4)
    wanted = sum(hits for _, hits, _ in found) / count
    assert scores[f"{split}_token_accuracy"] == pytest.approx(wanted)


def test_the_validation_score_is_of_closed_answers_or_the_mean_probability_of_a_token(teacher):
    by_name = {task.name: task for task in teacher.job.tasks}
    last = teacher.scores[-1]
    score = teacher.evaluator.validation_score(by_name["banking"])
    assert score == last["banking"]["validation_own"]
    for name in ("first", "raw"):
        score = teacher.evaluator.validation_score(by_name[name])
        assert score == pytest.approx(1 / last[name]["validation_perplexity"], rel=1e-6)
        assert 0 < score < 1


def test_a_closed_task_is_answered_by_its_likeliest_answer(teacher):
    held, labels = teacher.data.held_out[0], teacher.job.labels
    right = []
    for text in held.rows.texts[held.test]:
        prompt, answer = text.split("\x1e")
        totals = {
            label: likelihood(teacher.model, join_segments([prompt, label]))[0]
            for label in labels[:2]
        }
        right.append(max(totals, key=totals.get) == answer)
    scores = teacher.scores[-1]["banking"]
    assert scores["test_own"] == pytest.approx(sum(right) / len(right))
    assert scores["test_all"] == scores["test_own"]  # no other task has closed answers
    assert teacher.scores[0]["banking"]["test_own"] >= 0.9  # it was learned, then overwritten


def test_an_open_task_is_scored_by_what_is_generated(teacher):
    held, model = teacher.data.held_out[1], teacher.model
    places = [0, 4, 7]  # three of eight, evenly spread
    texts = [held.rows.texts[held.test][place] for place in places]
    right = []
    for text in texts:
        prompt, answer = text.split("\x1e")
        ids = torch.tensor(model.tokenizer(prompt).input_ids)
        given = model.tokenizer.decode(model.generate([ids], 5)[0])
        right.append(given.strip() == answer.strip())
    scores = teacher.scores[-1]["first"]
    assert scores["test_exact_match"] == scores["test_own"] == pytest.approx(sum(right) / 3)
    assert scores["num_validation"] == 3
    assert 0 <= scores["test_rouge_l"] <= 1


def test_raw_text_is_scored_by_its_tokens(teacher):
    held = teacher.data.held_out[2]
    shares = [likelihood(teacher.model, text) for text in held.rows.texts[held.test]]
    scores = teacher.scores[-1]["raw"]
    wanted = sum(hits / count for _, hits, count in shares) / len(shares)
    assert scores["test_own"] == pytest.approx(wanted)
    assert "test_exact_match" not in scores


def test_what_was_learned_shows(teacher):
    before, after = teacher.baseline["banking"], teacher.scores[0]["banking"]
    assert after["test_perplexity"] < before["test_perplexity"] / 3


def test_unchanged_parameters_are_not_looked_at_again(tiny_decoder, tmp_path):
    stack = [{"type": "lora", "rank": 2, "per_task": True}]
    tasks = ["banking", "home"]
    teacher = taught(plan_of(tiny_decoder, tmp_path, stack, tasks, kind="causal_lm"))
    first, second = (row["banking"] for row in teacher.scores)
    assert first["test_own"] == second["test_own"]
    looked = teacher.evaluator.num_forwards
    teacher.evaluator.evaluate(teacher.job.tasks, teacher.job.tasks, teacher.router)
    assert teacher.evaluator.num_forwards == looked
