"""Covers, beside `stability_decay`: `events`.

Rates and strengths found while a stream is taught: no trace, no old rows, no work lost.
"""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from ratchet.pipelines.data.prepared import HeldOut
from ratchet.pipelines.errors import DivergedError
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.spec.methods.base import StrengthConfig
from ratchet.pipelines.training.event_log import EventLog
from ratchet.pipelines.training.events import SearchTrained
from ratchet.pipelines.training.search_file import SEARCH_FILE
from ratchet.pipelines.update.stale import discard_if_stale
from tests.conformance.groups import in_group
from tests.conformance.streams import (
    SETTINGS,
    InterruptingCheckpoints,
    Interruption,
    differences,
    knowledge,
    name_of,
    plan_of,
    problems_of,
    taught,
    teacher_of,
)
from tests.integration.drivers import outcome_of
from tests.tiny import teach, tiny_spec

RATE = 3e-3
ONE_RATE = {"learning_rates": [RATE, 1e38], "tolerance": 0.99}
"""The first is the only one that does not diverge, and the first strength is good enough."""
DECAYING = {
    "learning_rates": [1e-5, 1e-2],
    "tolerance": 0.1,
    "factor": 0.25,
    "start": {"ewc": 1e5},
}
"""With these the third of the tiny tasks is not learned until the strength has fallen."""
SEARCHED = [
    [{"type": "ewc", "strength": 10.0}],
    [{"type": "replay", "capacity": 10}, {"type": "si", "strength": 50.0}],
    [{"type": "lora", "rank": 2}, {"type": "mas", "strength": 10.0}],
    [{"type": "lwf", "strength": 2.0}, {"type": "l2_sp", "strength": 1.0}],
    [{"type": "l2_sp", "strength": 1.0, "towards": "last"}, {"type": "der", "capacity": 10}],
    [{"type": "o_lora", "rank": 2, "strength": 0.25}],
    [{"type": "generative"}, {"type": "ewc", "strength": 10.0}],
]
STRUCTURES = [
    [{"type": kind, **SETTINGS[kind]}]
    for kind in SETTINGS
    if kind != "analytic" and not problems_of([{"type": kind, **SETTINGS[kind]}])
]


def left_to_search(stack, settings):
    """A stack with its strengths found by a search that begins at them."""
    own = [m for m in stack if issubclass(METHOD_CONFIGS[m["type"]], StrengthConfig)]
    start = {method["type"]: method["strength"] for method in own if "strength" in method}
    found = [{**m, "strength": "auto"} if m["type"] in start else m for m in stack]
    return found, {**settings, "start": start}


@pytest.mark.parametrize("stack", [*SEARCHED, *STRUCTURES], ids=name_of)
def test_a_search_leaves_no_trace_but_what_it_decides(tiny_model, tmp_path, stack):
    given = plan_of(tiny_model, tmp_path / "given", stack, training={"learning_rate": RATE})
    methods, settings = left_to_search(stack, ONE_RATE)
    auto = {"learning_rate": "auto"}
    plan = plan_of(tiny_model, tmp_path / "found", methods, training=auto, stability_decay=settings)
    searching = taught(plan)
    first, second = searching.search.records["home"].learning_rates
    assert first.score is not None
    assert second.score is None, "it diverged"
    assert differences(knowledge(taught(given)), knowledge(searching)) == []


def lineage_spec(model, folder, task, methods, rate, **sections):
    training = {"num_epochs": 6, "batch_size": 16, "learning_rate": rate}
    return tiny_spec(model, folder / "rows", "tiny", [task], methods, training=training, **sections)


def assert_told(home, result, task):
    """What was searched for a task is in costs, report and tracking."""
    record = result["search"][task]
    tried = [*record["learning_rates"], *record["strengths"]]
    spent = sum(one["seconds"] for one in tried)
    assert result["costs"][task]["seconds"]["search"] == pytest.approx(spent, abs=2e-3)
    assert result["seconds"]["search"] == pytest.approx(spent, abs=2e-3)
    page = Path(result["report"]).read_text(encoding="utf-8")
    assert "What each task was taught with" in page
    outboxes = [path.read_text(encoding="utf-8") for path in home.rglob("outbox.jsonl")]
    events = [json.loads(line) for text in outboxes for line in text.splitlines()]
    of_task = [event for event in events if event["run"].endswith(f"/{task}")]
    params = {
        k: v for event in of_task if event["kind"] == "params" for k, v in event["params"].items()
    }
    assert params["decided.strengths.ewc"] == str(record["decided"]["strengths"]["ewc"])
    curve = [
        e["values"]["search/held/ewc"] for e in of_task if "search/held/ewc" in e.get("values", {})
    ]
    assert curve == [one["strengths"]["ewc"] for one in record["strengths"]]


def test_a_lineage_ends_as_if_what_was_found_for_each_task_had_been_given(tiny_model, tmp_path):
    names = ["banking", "home", "kitchen"]
    auto = [{"type": "ewc", "strength": "auto"}]
    searched = tmp_path / "searched"
    decided, result = [], {}
    for name in names:
        spec = lineage_spec(tiny_model, tmp_path, name, auto, "auto", stability_decay=DECAYING)
        result = teach(searched, spec)
        decided.append(result["search"][name]["decided"])
    strengths = [one["strengths"].get("ewc") for one in decided]
    assert_told(searched, result, "kitchen")
    assert strengths[0] is None, "the first task has nothing to hold"
    assert strengths[1] > strengths[2], "or the test shows nothing of what is carried over"
    given = tmp_path / "given"
    for name, one in zip(names, decided, strict=True):
        strength = one["strengths"].get("ewc", DECAYING["start"]["ewc"])
        methods = [{"type": "ewc", "strength": strength}]
        teach(given, lineage_spec(tiny_model, tmp_path, name, methods, one["learning_rate"]))
    for number in (1, 2, 3):
        assert differences(outcome_of(given, number), outcome_of(searched, number)) == []
    registry = Home(searched.resolve(), None).registry
    carried = [read_manifest(registry.path("tiny", number)).strengths for number in (1, 2, 3)]
    assert carried == [{}, {"ewc": strengths[1]}, {"ewc": strengths[2]}]


def searching_plan(model, folder, **training):
    return plan_of(
        model,
        folder,
        [{"type": "replay", "capacity": 10}, {"type": "ewc", "strength": "auto"}],
        tasks=("banking", "home", "kitchen"),
        training={"num_epochs": 6, "learning_rate": "auto", **training},
        stability_decay=DECAYING,
    )


class InterruptingEvents(EventLog):
    """An event log in which the `number`-th training of a search is the last thing written."""

    def __init__(self, folder, number):
        super().__init__(folder)
        self.left = number

    def emit(self, event):
        super().emit(event)
        self.left -= isinstance(event, SearchTrained)
        if self.left == 0:
            raise Interruption(event)


def trainings(plan):
    lines = (plan.job.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return [event for event in map(json.loads, lines) if event["kind"] == "search_trained"]


@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_search_cut_off_between_trainings_repeats_none_of_them(tiny_model, tmp_path, number):
    whole = searching_plan(tiny_model, tmp_path / "whole")
    undisturbed = taught(whole)
    plan = searching_plan(tiny_model, tmp_path / "cut")
    cut_off = teacher_of(plan)
    cut_off.search.events = InterruptingEvents(plan.job.folder, number)
    with pytest.raises(Interruption):
        cut_off.run()
    again = teacher_of(plan)
    again.run()
    assert differences(knowledge(undisturbed), knowledge(again)) == []
    wanted = [{**t, "seconds": 0, "time": 0} for t in trainings(whole)]
    assert [{**t, "seconds": 0, "time": 0} for t in trainings(plan)] == wanted
    assert again.search.seconds("home") == again.costs["home"]["search_seconds"]


@pytest.mark.parametrize("number", [1, 13, 24, 26])
def test_a_task_cut_off_after_its_search_goes_on_with_what_was_found(tiny_model, tmp_path, number):
    # Twelve steps a task and one checkpoint each; 13 is the first step of the second task.
    plan = searching_plan(tiny_model, tmp_path, checkpoint_every_steps=1)
    undisturbed = taught(plan)
    num_trainings = len(trainings(plan))
    (plan.job.folder / SEARCH_FILE).unlink()
    folder = plan.job.folder / "interrupted"
    with pytest.raises(Interruption):
        taught(plan, store=InterruptingCheckpoints(folder, number))
    again = teacher_of(plan, store=InterruptingCheckpoints(folder, -1))
    again.run()
    assert differences(knowledge(undisturbed), knowledge(again)) == []
    assert _untimed(again.search.records) == _untimed(undisturbed.search.records)
    assert len(trainings(plan)) == 2 * num_trainings


def _untimed(records):
    return {
        task: replace(
            record,
            learning_rates=tuple(replace(one, seconds=0) for one in record.learning_rates),
            strengths=tuple(replace(one, seconds=0) for one in record.strengths),
        )
        for task, record in records.items()
    }


def test_no_row_of_another_task_and_no_test_row_is_needed(tiny_model, tmp_path):
    whole = taught(searching_plan(tiny_model, tmp_path / "whole"))
    plan = searching_plan(tiny_model, tmp_path / "bare")
    teacher = teacher_of(plan)
    settle, looked_at = teacher.search.settle, []

    def settle_alone(ctx, rows):
        """Search while every other row is out of reach."""
        known, train = dict(teacher.evaluator.held_out), dict(teacher.data.train)
        own = known[ctx.task.id]
        alone = HeldOut(own.rows.first(own.num_validation), own.num_validation)
        teacher.evaluator.held_out = {ctx.task.id: alone}
        teacher.data.train.clear()
        teacher.data.held_out.clear()
        looked_at.append(ctx.task.name)
        try:
            return settle(ctx, rows)
        finally:
            teacher.evaluator.held_out = known
            teacher.data.train.update(train)
            teacher.data.held_out.update(known)

    teacher.search.settle = settle_alone
    teacher.run()
    assert looked_at == ["banking", "home", "kitchen"]
    assert differences(knowledge(whole), knowledge(teacher)) == []


def found_by(workers, plan):
    teacher = taught(plan, workers=workers)
    return knowledge(teacher), _untimed(teacher.search.records)


def test_two_workers_find_the_same_and_stay_equal(tiny_model, tmp_path):
    plan = searching_plan(tiny_model, tmp_path)
    (one, found), (two, also_found) = in_group(2, tmp_path / "group", found_by, plan)
    assert found == also_found
    of_rank = {"replay/rows", "replay/values"}
    assert set(differences(one, two)) <= of_rank
    # Accuracies are of all rows: twelve validation rows a task, whatever the number of workers.
    scores = [one.score for record in found.values() for one in record.learning_rates]
    assert all(abs(12 * score - round(12 * score)) < 1e-9 for score in scores)


def test_only_a_strength_is_found_at_the_rate_that_is_given(tiny_model, tmp_path):
    methods = [{"type": "ewc", "strength": "auto"}]
    settings = {"tolerance": 0.99}
    given = {"learning_rate": RATE}
    plan = plan_of(tiny_model, tmp_path, methods, training=given, stability_decay=settings)
    teacher = taught(plan)
    assert list(teacher.search.records) == ["home"]
    record = teacher.search.records["home"]
    assert [one.learning_rate for one in record.learning_rates] == [RATE]
    assert [one.strengths for one in record.strengths] == [{"ewc": 1e5}]


def test_towards_the_base_model_the_first_task_is_held_too(tiny_model, tmp_path):
    methods = [{"type": "l2_sp", "strength": "auto"}, {"type": "ewc", "strength": "auto"}]
    plan = plan_of(tiny_model, tmp_path, methods, stability_decay={"tolerance": 0.99})
    records = taught(plan).search.records
    assert [set(record.decided.strengths) for record in records.values()] == [
        {"l2_sp"},
        {"l2_sp", "ewc"},
    ]


def test_rates_that_all_diverge_end_the_update(tiny_model, tmp_path):
    settings = {"learning_rates": [1e37, 1e38]}
    auto = {"learning_rate": "auto"}
    plan = plan_of(tiny_model, tmp_path, [], training=auto, stability_decay=settings)
    with pytest.raises(DivergedError, match=r"set lower ones in stability_decay\.learning_rates"):
        taught(plan)


def test_a_language_model_is_searched_for_by_the_score_of_each_task(tiny_decoder, tmp_path):
    methods = [{"type": "lora", "rank": 2}, {"type": "ewc", "strength": 5.0}]
    given = plan_of(
        tiny_decoder,
        tmp_path / "given",
        methods,
        kind="causal_lm",
        training={"learning_rate": RATE},
    )
    searched, settings = left_to_search(methods, ONE_RATE)
    auto = {"learning_rate": "auto"}
    plan = plan_of(
        tiny_decoder,
        tmp_path / "found",
        searched,
        kind="causal_lm",
        training=auto,
        stability_decay=settings,
    )
    assert differences(knowledge(taught(given)), knowledge(taught(plan))) == []


def test_trainings_on_other_data_are_not_gone_on_from(tiny_model, tmp_path):
    plan = searching_plan(tiny_model, tmp_path)
    assert not discard_if_stale(plan)
    kept = plan.job.folder / SEARCH_FILE
    kept.write_text("{}", encoding="utf-8")
    assert not discard_if_stale(plan)
    assert kept.exists()
    plan.data.train[0].targets[0] = 1 - plan.data.train[0].targets[0]
    assert discard_if_stale(plan)
    assert not kept.exists()
