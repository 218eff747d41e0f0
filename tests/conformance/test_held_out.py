"""Validation chooses, test only reports: other test labels leave all that is learned as it was."""

import json

import pytest
from transformers import AutoTokenizer

from ratchet.pipelines.update.plan import make_plan
from ratchet.pipelines.update.start import open_start
from tests.conformance.streams import differences, knowledge, name_of, plan_of, taught
from tests.tiny import TASKS

STACKS = [
    [],
    [{"type": "analytic", "width": 64}],
    [{"type": "lora", "rank": 2, "per_task": True}],
    [{"type": "replay", "capacity": 10, "selection": "herding"}, {"type": "ewc"}],
]


def swap_labels(folder, split):
    """Give the rows of a split each other's labels."""
    for name, labels in TASKS.items():
        for path in folder.glob(f"**/{name}.{split}.jsonl"):
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            for row in rows:
                row["label"] = labels[1 - labels.index(row["label"])]
            path.write_text("\n".join(map(json.dumps, rows)) + "\n")


def planned_again(plan):
    """The plan of the same spec over the files as they are now."""
    folder = plan.job.folder.with_name("again")
    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(plan.job.spec.model.name)
    return make_plan(plan.job.spec, open_start(None), tokenizer, folder)


@pytest.mark.parametrize("stack", STACKS, ids=name_of)
def test_test_labels_change_the_report_and_nothing_else(tiny_model, tmp_path, stack):
    plan = plan_of(tiny_model, tmp_path, stack)
    before = taught(plan)
    swap_labels(tmp_path, "test")
    after = taught(planned_again(plan))
    one, other = knowledge(before), knowledge(after)
    assert differences(one, other) == ["scores"]
    for row, changed in zip(before.scores, after.scores, strict=True):
        for task, scores in row.items():
            assert changed[task]["test_own"] == pytest.approx(1 - scores["test_own"])
            assert changed[task]["validation_own"] == scores["validation_own"]
            assert changed[task]["validation_all"] == scores["validation_all"]
    assert before.calibrate().threshold == after.calibrate().threshold
