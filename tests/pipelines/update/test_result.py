"""Covers `result`, `kept_result`, `assembly`."""

import dataclasses
import json

import pytest

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.evaluation.as_served import AsServed
from ratchet.pipelines.evaluation.costs import TaskCosts
from ratchet.pipelines.evaluation.gate import decide
from ratchet.pipelines.evaluation.instruments import Findings, Retention
from ratchet.pipelines.registry.answer_rule import AnswerRule
from ratchet.pipelines.report.data import ColumnSizes, ServedTask
from ratchet.pipelines.spec.update_spec import GateSpec
from ratchet.pipelines.update.kept_result import RESULT_FILE, read_result, write_result
from ratchet.pipelines.update.result import (
    FORMAT,
    Accuracies,
    LanguageResult,
    UpdateResult,
)
from tests.pipelines.conftest import SEARCH
from tests.pipelines.evaluation.outcomes import anchor, right

RULE = GateSpec()

HELD = right(9, of=12, served=6)
COSTS = TaskCosts({"train": 1.25}, 7, 5, 3, 10, 400)
PLAIN = UpdateResult(
    lineage="tiny",
    version=2,
    promoted=True,
    tasks=("banking", "travel"),
    accuracy_matrix=[[0.5, None], [0.25, 1.0]],
    metrics={"average_accuracy": 0.625, "intransigence": None},
    gate=decide({"banking": HELD}, {"banking": HELD}, {"banking": anchor("banking", HELD)}, RULE),
    costs={"travel": COSTS},
    instruments=Findings(),
    flip_rates=(None, 0.25),
    search={},
    precision="fp32",
    warnings=("3 rows are empty",),
    seconds={"total": 3.5},
    report="report.html",
)
FULL = dataclasses.replace(
    PLAIN,
    costs={"travel": dataclasses.replace(COSTS, column=ColumnSizes(6, 3, 2, {"banking": 1}))},
    instruments=Findings(retention=Retention(0.5, 0.25)),
    search=SEARCH,
    language=LanguageResult(("accuracy", "exact_match"), {"perplexity_matrix": [[2.0, None]]}),
    as_served=AsServed(
        0.75,
        {"banking": ServedTask(0.75, 0.125, 0.0625, 0.0625, 16)},
        AnswerRule("mixture", accuracy={"mixture": 0.8}, num_rows=12),
    ),
    with_task_id=Accuracies([[0.75, None]], {"average_accuracy": 0.75}),
    run="ab" * 16,
)
KEYS = [
    *("lineage", "version", "promoted", "tasks", "accuracy_matrix", "metrics", "gate", "costs"),
    *("instruments", "search", "precision", "warnings"),
]


@pytest.mark.parametrize("result", [PLAIN, FULL], ids=["plain", "full"])
def test_a_run_reads_the_result_that_it_kept(tmp_path, result):
    write_result(tmp_path, result)
    assert read_result(tmp_path / RESULT_FILE) == result


def test_the_keys_that_are_printed_and_their_order():
    assert list(PLAIN.to_json()) == [*KEYS, "seconds", "report"]
    more = [
        "as_served",
        "main_scores",
        "perplexity_matrix",
        "with_task_id",
        "seconds",
        "report",
        "run",
    ]
    assert list(FULL.to_json()) == [*KEYS, *more]
    assert PLAIN.to_json()["instruments"] == {"negative_flip_rate_by_stage": [None, 0.25]}
    assert list(FULL.to_json()["instruments"]) == ["retention", "negative_flip_rate_by_stage"]


def test_what_is_printed_is_as_reading_it_gives_it():
    assert FULL.to_json() == json.loads(json.dumps(FULL.to_json()))


def test_what_is_printed_has_no_format_and_what_is_kept_has_one_first():
    assert "format" not in PLAIN.to_json()
    assert list(PLAIN.kept().items()) == [("format", FORMAT), *PLAIN.to_json().items()]


def test_a_result_that_another_release_kept_is_refused(tmp_path):
    raw = PLAIN.kept() | {"format": FORMAT + 1}
    (tmp_path / RESULT_FILE).write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(VersionError, match=r"result.json has format 3 .*newer.* teach it again"):
        read_result(tmp_path / RESULT_FILE)


def test_a_result_that_lacks_a_part_is_refused():
    raw = {name: value for name, value in PLAIN.kept().items() if name != "gate"}
    with pytest.raises(VersionError, match="here is broken: gate: "):
        UpdateResult.from_kept(raw, "here")
