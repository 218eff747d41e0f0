"""Covers `pipelines.tuning.search.prefix`, `pipelines.tuning.search.seed_run`.

Trials that differ in fields which are idle in the first task may share what it learned.
"""

import shutil
from dataclasses import replace

import pytest

from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.search.prefix import (
    PrefixShelf,
    first_task_digest,
    idle_fields,
    shares_first_tasks,
)
from ratchet.pipelines.tuning.search.seed_run import TrialCheckpoints
from tests.conformance.claims import claiming, other_values, row_of
from tests.conformance.streams import SETTINGS, differences, knowledge, plan_of, taught, teacher_of

IDLE = [
    (kind, field, value)
    for kind in claiming(lambda config: config.idle_in_first_task)
    for field in sorted(METHOD_CONFIGS[kind].idle_in_first_task)
    for value in other_values(kind, field)
]


def plans(model, folder, kind, field, value):
    for place, method in enumerate((row_of(kind), row_of(kind, **{field: value}))):
        yield plan_of(model, folder / str(place), [method], ["banking", "home", "kitchen"])


def test_some_methods_have_such_fields():
    assert {("ewc", "strength", 1), ("ewc", "strength", 5.0), ("replay", "fraction", 0.15)} <= {
        *IDLE
    }


@pytest.mark.parametrize(("kind", "field", "value"), IDLE)
def test_a_trial_that_goes_on_from_a_shared_first_task_ends_as_one_that_taught_it(
    tiny_model, tmp_path, kind, field, value
):
    first, second = plans(tiny_model, tmp_path, kind, field, value)
    digest = first_task_digest(first.job.spec)
    assert f"methods.{kind}.{field}" in idle_fields(first.job.spec)
    # The rows lie in folders of their own here, which is the only other difference.
    assert (
        first_task_digest(second.job.spec.model_copy(update={"tasks": first.job.spec.tasks}))
        == digest
    )
    shelf = PrefixShelf(tmp_path / "shelf")
    stages: list[int] = []
    taught(first, store=TrialCheckpoints(tmp_path / "one", shelf, digest, stages.append))
    assert stages == [1, 2, 3]
    undisturbed = taught(second)
    store = TrialCheckpoints(tmp_path / "two", shelf, digest, stages.append)
    assert store.take_first_task()
    shutil.rmtree(shelf.folder)  # what was taken is the trial's own
    assert not store.take_first_task()  # it has begun
    shared = teacher_of(second, store=store)
    shared.run()
    assert stages[3:] == [2, 3]  # the first task was not taught again
    assert differences(knowledge(undisturbed), knowledge(shared)) == []


@pytest.mark.parametrize(
    ("kind", "field", "value"),
    [
        ("ewc", "strength", 0.0),
        ("replay", "fraction", 0.0),
        ("ewc", "labels", "observed"),
        ("replay", "capacity", 11),
    ],
)
def test_what_switches_a_method_off_or_changes_what_it_keeps_is_another_first_task(
    tiny_model, tmp_path, kind, field, value
):
    one = {"type": kind, **SETTINGS[kind]}
    specs = [
        plan_of(tiny_model, tmp_path, [method]).job.spec for method in (one, one | {field: value})
    ]
    assert first_task_digest(specs[0]) != first_task_digest(specs[1])


def test_another_seed_or_rate_is_another_first_task(tiny_model, tmp_path):
    digests = {
        first_task_digest(plan_of(tiny_model, tmp_path, [], training=training).job.spec)
        for training in ({}, {"seed": 1}, {"learning_rate": 1e-4})
    }
    assert len(digests) == 3


def test_the_first_to_put_a_first_task_on_the_shelf_stays(tmp_path):
    shelf = PrefixShelf(tmp_path / "shelf")
    for word in ("first", "second"):
        (tmp_path / word).mkdir()
        (tmp_path / word / "file").write_text(word)
        shelf.put("digest", tmp_path / word)
    assert shelf.take("digest", tmp_path / "trial" / "checkpoint")
    assert (tmp_path / "trial" / "checkpoint" / "file").read_text() == "first"
    assert [path.name for path in (tmp_path / "shelf").iterdir()] == ["digest"]
    assert [path.name for path in (tmp_path / "trial").iterdir()] == ["checkpoint"]
    assert not shelf.take("other", tmp_path / "trial" / "another")


def test_nothing_is_put_on_the_shelf_of_a_disk_that_is_nearly_full(tmp_path):
    shelf = PrefixShelf(tmp_path / "shelf", keep_free=1.0)
    (tmp_path / "checkpoint").mkdir()
    shelf.put("digest", tmp_path / "checkpoint")
    assert list((tmp_path / "shelf").iterdir()) == []
    assert not shelf.take("digest", tmp_path / "own")


def test_what_goes_while_it_is_taken_was_not_there(tmp_path, monkeypatch):
    shelf = PrefixShelf(tmp_path / "shelf")
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "file").write_text("weights")
    shelf.put("digest", tmp_path / "checkpoint")

    def gone(source, _target):
        shutil.rmtree(shelf.folder)
        raise FileNotFoundError(source)

    monkeypatch.setattr("ratchet.pipelines.tuning.search.prefix._link", gone)
    assert not shelf.take("digest", tmp_path / "own" / "checkpoint")
    assert list((tmp_path / "own").iterdir()) == []


RATE, STRENGTH = "training.learning_rate", "methods.ewc.strength"
POINTS, RANGE = {"log": [1e-4, 1e-2], "points": 3}, {"log": [1, 100]}


@pytest.mark.parametrize(
    ("parameters", "training", "expected"),
    [
        ({RATE: POINTS, STRENGTH: RANGE}, {}, True),
        ({STRENGTH: RANGE}, {}, True),
        ({RATE: RANGE | {"log": [1e-4, 1e-2]}, STRENGTH: RANGE}, {}, False),
        ({RATE: POINTS}, {}, False),
        ({RATE: POINTS, STRENGTH: RANGE}, {"share_prefixes": False}, False),
    ],
)
def test_first_tasks_are_shared_where_two_trials_can_agree_on_one(
    tiny_model, tmp_path, parameters, training, expected
):
    job = plan_of(tiny_model, tmp_path, [{"type": "ewc"}], ["banking", "home"]).job
    tune = TuneSpec.model_validate({"parameters": parameters} | training)
    assert shares_first_tasks(tune, job) is expected
    assert not shares_first_tasks(tune, replace(job, parent=tmp_path))
    group = job.spec.scaling.model_copy(update={"num_workers": 2})
    grouped = job.spec.model_copy(update={"scaling": group})
    assert not shares_first_tasks(tune, replace(job, spec=grouped))
    assert not shares_first_tasks(tune, replace(job, tasks=job.tasks[:1]))
