"""Covers `pipelines.training.instruments`, `pipelines.training.probing`,
`pipelines.evaluation.instruments`.

Instruments measure the same with two workers, sharded or not, as with one.
"""

import pytest

from tests.conformance.groups import in_group
from tests.conformance.streams import name_of, plan_of, taught
from tests.conformance.test_language_models import language_plan
from tests.tiny import write_task
from tests.tiny_lm import write_rows

SCALINGS = {
    "data": {"num_workers": 2},
    "fsdp": {"num_workers": 2, "sharding": "fsdp"},
}
STACKS = [
    [],
    [{"type": "lora", "rank": 2, "per_task": True}],
    [{"type": "freeze", "num_blocks": 0}],
    [{"type": "heads", "layout": "per_task"}, {"type": "ewc", "labels": "observed"}],
]
LANGUAGE = [[], [{"type": "lora", "rank": 2, "per_task": True}]]
TEXTS = ("the rain was good and the film was long .", "please wire", "a table for two")
FEW_ROUNDINGS = 1e-4
"""What the order of sums over two workers may change of a perplexity; shares of rows are equal."""


def measured(workers, plan):
    """What a teacher's instruments found, what was right after each stage, and every look."""
    teacher = taught(plan, workers=workers)
    found = teacher.instruments.finish().to_json()
    looks = {name: tensor.tolist() for name, tensor in teacher.instruments.tensors().items()}
    return found, {"right": teacher.instruments.right, "looks": looks}


def labelled(folder, num_test):
    """Labelled rows that no task teaches, as a spec's `retention`."""
    task = write_task(folder, "general", ["film", "book", "positive"])
    lines = (folder / "general.test.jsonl").read_text(encoding="utf-8").splitlines()
    (folder / "some.jsonl").write_text("\n".join(lines[:num_test]) + "\n", encoding="utf-8")
    return {"train": task["train"], "test": str(folder / "some.jsonl")}


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS.keys())
@pytest.mark.parametrize("stack", STACKS, ids=name_of)
@pytest.mark.parametrize("num_test", [1, 18])
def test_two_workers_measure_what_one_measures(still_model, tmp_path, stack, scaling, num_test):
    # Of a single general row to test on, the second worker has none.
    evaluation = {
        "probe": True,
        "forgetting_events": True,
        "retention": labelled(tmp_path / "general", num_test),
    }
    sections = {"evaluation": evaluation, "joint": not stack}
    wanted = measured(None, plan_of(still_model, tmp_path / "alone", stack, **sections))
    assert sum(row["events"] for row in wanted[0]["forgetting_events"]["most_forgotten"]) > 0
    assert set(wanted[0]) == {"probe", "forgetting_events", "retention"}
    plan = plan_of(still_model, tmp_path / "pair", stack, scaling=scaling, **sections)
    assert in_group(2, tmp_path / "found", measured, plan) == [wanted, wanted]


@pytest.mark.parametrize("num_texts", [1, 3])
@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS.keys())
@pytest.mark.parametrize("stack", LANGUAGE, ids=name_of)
def test_two_workers_measure_a_language_model_as_one(
    tiny_decoder, tmp_path, stack, scaling, num_texts
):
    rows = [{"text": text} for text in TEXTS[:num_texts]]
    evaluation = {
        "retention": {"test": write_rows(tmp_path / "general.jsonl", rows)},
        "max_new_tokens": 4,
        "max_generated_rows": 4,
    }
    alone = language_plan(tiny_decoder, tmp_path / "alone", stack, evaluation=evaluation)
    wanted, right = measured(None, alone)
    plan = language_plan(
        tiny_decoder, tmp_path / "pair", stack, evaluation=evaluation, scaling=scaling
    )
    for found, theirs in in_group(2, tmp_path / "found", measured, plan):
        assert found == {"retention": pytest.approx(wanted["retention"], rel=FEW_ROUNDINGS)}
        assert theirs == right
