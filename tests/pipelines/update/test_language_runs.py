"""Covers `evaluate`.

Updates of language models from spec to version, and what is wrong with them said in time.
"""

import json

import pytest
import torch
from peft import PeftModel, PeftModelForCausalLM
from transformers import AutoModelForCausalLM

from ratchet.pipelines.answering.predict import predict
from ratchet.pipelines.answering.served_version import load_served_version
from ratchet.pipelines.errors import DataError, ModelError, NotFoundError, SpecError
from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.spec.reading import load_spec
from ratchet.pipelines.update.evaluate import evaluate_version
from ratchet.pipelines.version import load_version
from tests.conformance.streams import plan_of, problems_of
from tests.tiny import teach
from tests.tiny_lm import tiny_lm_spec, write_open_task, write_rows, write_text_task

LIMITS = {"max_new_tokens": 4, "max_generated_rows": 4}
INPUTS = {
    "input_ids": torch.tensor([[0, 40, 41, 50, 60]]),
    "attention_mask": torch.ones(1, 5, dtype=torch.int64),
    "completion_mask": torch.tensor([[0, 0, 0, 1, 1]]),
}


def taught_twice(model, folder, methods):
    """A lineage of two versions, and the result of the second update."""
    first = tiny_lm_spec(
        model,
        folder / "rows",
        "lm",
        ["banking", write_open_task(folder, "first", 0)],
        methods,
        evaluation=LIMITS,
    )
    one = teach(folder / "home", first)
    tasks = ["home", write_text_task(folder, "raw")]
    two = teach(
        folder / "home",
        tiny_lm_spec(model, folder / "rows", "lm", tasks, methods, evaluation=LIMITS),
    )
    return first, one, two


@pytest.mark.parametrize(
    "methods",
    [
        [],
        [{"type": "lora", "rank": 2}, {"type": "replay", "capacity": 8}],
        [{"type": "lora", "rank": 2, "per_task": True}],
    ],
    ids=["finetune", "shared", "per_task"],
)
def test_a_lineage_grows_and_is_measured_and_asked(tiny_decoder, tmp_path, methods):
    first, one, two = taught_twice(tiny_decoder, tmp_path, methods)
    assert two["tasks"] == ["banking", "first", "home", "raw"]
    assert two["accuracy_matrix"][:2] == [[*row, None, None] for row in one["accuracy_matrix"]]
    assert len(two["perplexity_matrix"]) == 4
    assert two["exact_match_matrix"][-1][0] is None  # the first task is closed
    folder = Registry(tmp_path / "home", None).path("lm", 2)
    manifest = read_manifest(folder)
    assert manifest.kind == "causal_lm"
    adapters = list(folder.glob("adapters/*/adapter_config.json"))
    assert len(adapters) == (0 if not methods else 4 if "per_task" in methods[0] else 1)
    for path in adapters:
        assert json.loads(path.read_text())["task_type"] == "CAUSAL_LM"

    measured = evaluate_version(first, folder)["scores"]
    assert measured["banking"]["test"]["with_task_id"] == pytest.approx(
        two["with_task_id"]["accuracy_matrix"][-1][0], abs=1e-6
    )
    assert measured["first"]["test"]["perplexity"] == pytest.approx(
        two["perplexity_matrix"][-1][1], rel=1e-4
    )

    texts = ["please wire my money =", "to the rain >"]
    answers = predict(tmp_path / "home", "lm", texts)
    assert len(answers) == 2
    assert all(isinstance(answer.completion, str) for answer in answers)
    (named,) = predict(tmp_path / "home", "lm", texts[:1], "banking")
    assert named.task == "banking"
    with pytest.raises(NotFoundError, match="Did you mean 'banking'"):
        predict(tmp_path / "home", "lm", texts, "bankin")
    with pytest.raises(DataError, match=r"text 1: it has \d+ tokens"):
        predict(tmp_path / "home", "lm", ["the rain " * 40])
    with pytest.raises(ModelError, match="serving answers with classifiers only"):
        load_served_version(folder, None)


@pytest.mark.parametrize(
    "method",
    [
        {"type": "lora", "rank": 2},
        {"type": "lora", "rank": 2, "per_task": True},
        {"type": "o_lora", "rank": 2},
    ],
    ids=["shared", "per_task", "summed"],
)
def test_peft_reads_the_adapters_of_a_language_model(tiny_decoder, tmp_path, method):
    tasks = ["banking", "home"]
    spec = tiny_lm_spec(tiny_decoder, tmp_path / "rows", "lm", tasks, [method])
    teach(tmp_path / "home", spec)
    folder = Registry(tmp_path / "home", None).path("lm", 1)
    first, *others = sorted((folder / "adapters").iterdir())
    base = AutoModelForCausalLM.from_pretrained(tiny_decoder)
    untouched = base(INPUTS["input_ids"]).logits
    theirs = PeftModel.from_pretrained(base, first, adapter_name=first.name).eval()
    assert isinstance(theirs, PeftModelForCausalLM)
    for other in others:
        theirs.load_adapter(other, adapter_name=other.name)
    if method["type"] == "o_lora":
        theirs.base_model.set_adapter([first.name, *(other.name for other in others)])
    ours = load_version(folder)
    ours.model.eval()
    ours.stack.activate(ours.model, 0)
    with torch.no_grad():
        found = theirs(INPUTS["input_ids"]).logits
        assert (found - untouched).abs().max() > 0.01
        torch.testing.assert_close(ours.model(INPUTS).logits, found)


@pytest.mark.slow
def test_two_workers_teach_a_language_model(tiny_decoder, tmp_path):
    tasks = ["banking", write_open_task(tmp_path, "first", 0)]
    spec = tiny_lm_spec(
        tiny_decoder,
        tmp_path / "rows",
        "lm",
        tasks,
        [{"type": "lora", "rank": 2}, {"type": "replay", "capacity": 8}],
        evaluation=LIMITS,
        scaling={"num_workers": 2},
    )
    result = teach(tmp_path / "home", spec)
    assert result["tasks"] == ["banking", "first"]


def planned(model, folder, rows, **training):
    task = {"name": "t", "train": write_rows(folder / "t.jsonl", rows)}
    training = {"max_length": 16, **training}
    return plan_of(model, folder, [], [task], kind="causal_lm", training=training)


def test_a_prompt_as_long_as_the_length_is_named_with_its_line(tiny_decoder, tmp_path):
    rows = [{"prompt": f"the rain {n}", "completion": " good"} for n in range(20)]
    rows[3]["prompt"] = "the rain " * 12
    with pytest.raises(DataError, match=r"t.jsonl:4: the prompt alone takes all 16 tokens"):
        planned(tiny_decoder, tmp_path, rows)


def test_completions_that_are_cut_are_counted(tiny_decoder, tmp_path):
    rows = [{"prompt": f"the rain {n}", "completion": " good"} for n in range(20)]
    rows[3]["completion"] = " good" * 12
    plan = planned(tiny_decoder, tmp_path, rows)
    assert any("1 completions of task 't' were cut" in warning for warning in plan.warnings)


def test_the_length_must_fit_the_context(tiny_decoder, tmp_path):
    with pytest.raises(SpecError, match=r"training.max_length: exceeds the 64 positions"):
        planned(tiny_decoder, tmp_path, [{"prompt": "a", "completion": "b"}], max_length=65)


def test_an_encoder_is_refused(tiny_model, tmp_path):
    rows = [{"prompt": f"the {n}", "completion": " good"} for n in range(9)]
    with pytest.raises(ModelError, match="no end-of-sequence token"):
        planned(tiny_model, tmp_path, rows)


@pytest.mark.parametrize("freeze", [{"num_blocks": 0}, {"warmup_epochs": 1}], ids=str)
def test_a_language_model_of_which_nothing_trains_is_refused(freeze):
    (problem,) = problems_of([{"type": "freeze", **freeze}], kind="causal_lm")
    assert "nothing would train" in str(problem)
    assert not problems_of([{"type": "freeze", "num_blocks": 1}], kind="causal_lm")


@pytest.mark.parametrize("kind", ["analytic", "heads"])
def test_methods_of_classifiers_are_refused(kind):
    problems = problems_of([{"type": kind}], kind="causal_lm")
    assert any("causal language model" in str(problem) for problem in problems)


@pytest.mark.parametrize("name", ["qwen_0_5b_lora_fsdp", "llama_8b_lora_fsdp"])
def test_the_documented_specs_are_sound(name, request):
    folder = request.config.rootpath / "configs" / "language"
    spec = load_spec(folder / f"{name}.yaml")
    assert spec.model.kind == "causal_lm"
    assert spec.scaling.sharding == "fsdp"
    assert spec.methods[0].type == "lora"
