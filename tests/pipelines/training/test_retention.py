"""What is left of a language model's pretrained ability: perplexity on general text."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ratchet.pipelines.errors import DataError, SpecError
from ratchet.pipelines.evaluation.language import LanguageEvaluator
from ratchet.pipelines.training.retention import general_data
from tests.conformance.streams import plan_of, taught, teacher_of
from tests.tiny import teach
from tests.tiny_lm import tiny_lm_spec, write_rows, write_text_task

TEXTS = ("the rain was good and the film was long .", "please wire", "a table for two")
STACKS = {
    "finetune": [],
    "lora": [{"type": "lora", "rank": 2, "per_task": True}],
    "prefix": [{"type": "prefix", "length": 2}],
    "columns": [{"type": "columns", "width": 0.5}],
}


def general_text(folder):
    return write_rows(folder / "general.jsonl", [{"text": text} for text in TEXTS])


def perplexity_of(texts, tokenizer, logits_of):
    """exp of the mean surprise at every token but the first of each text, one text at a time."""
    surprise, count = 0.0, 0
    for text in texts:
        ids = tokenizer(text).input_ids
        with torch.no_grad():
            chances = logits_of(torch.tensor([ids]))[0].log_softmax(dim=-1)
        surprise -= sum(float(chances[place - 1][ids[place]]) for place in range(1, len(ids)))
        count += len(ids) - 1
    return math.exp(surprise / count)


@pytest.mark.parametrize("methods", STACKS.values(), ids=STACKS.keys())
def test_the_base_and_the_taught_model_are_measured(tiny_decoder, tmp_path, methods):
    retention = {"test": general_text(tmp_path)}
    limits = {"retention": retention, "max_new_tokens": 1, "max_generated_rows": 1}
    tasks = ["banking", "home"]
    training = {"learning_rate": 1e-2, "num_epochs": 1}
    plan = plan_of(
        tiny_decoder,
        tmp_path,
        methods,
        tasks,
        kind="causal_lm",
        evaluation=limits,
        training=training,
    )
    teacher = taught(plan)
    found = teacher.instruments.finish().retention
    tokenizer = AutoTokenizer.from_pretrained(tiny_decoder)
    base = AutoModelForCausalLM.from_pretrained(tiny_decoder).eval()
    before = perplexity_of(TEXTS, tokenizer, lambda ids: base(ids).logits)
    assert found.before == pytest.approx(before, rel=1e-4)

    def answer(ids):
        mask = torch.ones_like(ids)
        inputs = {"input_ids": ids, "attention_mask": mask, "completion_mask": mask}
        return teacher.model(inputs).logits

    teacher.model.eval()
    teacher.stack.activate(teacher.model, 1)  # the task learned last
    after = perplexity_of(TEXTS, tokenizer, answer)
    assert found.after == pytest.approx(after, rel=1e-4)
    assert abs(math.log(found.after / before)) > 0.003


def test_general_text_is_cut_as_that_of_a_task(tiny_decoder, tmp_path):
    task = write_text_task(tmp_path, "raw")
    options = {"kind": "causal_lm", "evaluation": {"retention": {"test": task["train"]}}}
    teacher = teacher_of(plan_of(tiny_decoder, tmp_path, [], [task], **options))
    general = general_data(teacher.job.spec, teacher.model)
    own = teacher.data.train[0]
    assert list(general.test.texts) == list(own.texts)
    assert len(general.test) > 10
    assert general.test.tokens.equal(own.tokens)
    assert isinstance(teacher.evaluator, LanguageEvaluator)


@pytest.mark.parametrize(
    ("rows", "train", "error", "words"),
    [
        ([{"text": "the rain"}], "x.jsonl", SpecError, r"evaluation\.retention\.train.*Remove it"),
        ([{"prompt": "a", "completion": "b"}], None, DataError, "missing column 'text'"),
        ([{"text": " "}, {"text": "the rain"}], None, DataError, r"general.jsonl:1: empty text"),
        ([], None, DataError, "no text of two tokens"),
    ],
    ids=["training rows", "instructions", "an empty text", "nothing"],
)
def test_what_is_wrong_with_general_text_is_said_before_anything_is_taught(
    tiny_decoder, tmp_path, rows, train, error, words
):
    path = tmp_path / "general.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    retention = {"test": str(path), **({"train": train} if train else {})}
    plan = plan_of(
        tiny_decoder,
        tmp_path,
        [],
        ["banking"],
        kind="causal_lm",
        evaluation={"retention": retention},
    )
    with pytest.raises(error, match=words):
        teacher_of(plan)


def test_an_update_reports_the_perplexity_that_it_cost(tiny_decoder, tmp_path):
    limits = {"retention": {"test": general_text(tmp_path)}}
    raw = write_text_task(tmp_path, "raw")
    methods = [{"type": "replay", "capacity": 8}]
    spec = tiny_lm_spec(tiny_decoder, tmp_path, "lm", ["banking", raw], methods, evaluation=limits)
    result = teach(tmp_path / "home", spec)
    before, after = (result["metrics"][name] for name in ("retention_before", "retention"))
    assert result["instruments"]["retention"] == {"before": before, "after": after}
    assert before > 1
    assert after != before
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert f"{after:.2f}" in page or f"{after:,.0f}".replace(",", "\u202f") in page
