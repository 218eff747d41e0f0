"""Covers, beside `plan`: `checks`, `start`, `row_lengths`, `training.job`."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from transformers import AutoTokenizer

from ratchet.pipelines.errors import DataError, SpecError, VersionError
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.types import route_classes, route_tasks
from ratchet.pipelines.update.checks import check_continues
from ratchet.pipelines.update.plan import make_plan, run_digest
from ratchet.pipelines.update.start import open_start
from tests.conformance.streams import plan_of
from tests.tiny import TASKS, teach, tiny_spec
from tests.waiting import PATIENCE_SECONDS

DOMAIN = {"scenario": "domain_incremental"}


def test_classes_are_numbered_on_and_stages_follow_the_order(tiny_model, tmp_path):
    job = plan_of(tiny_model, tmp_path, [], tuple(TASKS)).job
    assert [task.class_ids for task in job.tasks] == [(0, 1), (2, 3), (4, 5)]
    assert [task.stage for task in job.tasks] == [0, 1, 2]
    assert [job.labels[index] for index in job.tasks[2].class_ids] == sorted(TASKS["kitchen"])
    assert job.past == ()


def test_joint_tasks_are_one_stage(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [], tuple(TASKS), joint=True)
    assert [task.stage for task in plan.job.tasks] == [0, 0, 0]
    assert set(plan.data.train) == {0}
    assert len(plan.data.train[0]) == 72
    assert plan.data.train[0].task_ids.unique().tolist() == [0, 1, 2]


PLAN_TWICE = """
import sys
from pathlib import Path
import ray
from ratchet.pipelines.data.streamed import StreamedRows
from tests.conformance.streams import plan_of
from tests.tiny import TASKS

started, init = [], ray.init
ray.init = lambda **how: started.append(how) or init(num_cpus=1, **how)
model, folder = Path(sys.argv[1]), Path(sys.argv[2])
plan = plan_of(model, folder, [], tuple(TASKS), data={"memory_budget_mb": 0.001})
assert all(isinstance(rows, StreamedRows) for rows in plan.data.train.values())
assert len(plan.data.train) == 3
assert len(started) == 1, started
assert not ray.is_initialized()
again = plan_of(model, folder, [], tuple(TASKS), data={"memory_budget_mb": 0.001})
assert len(started) == 1, "what lies on disk is used again"
assert again.data.train[2].targets.equal(plan.data.train[2].targets)
"""


@pytest.mark.slow
def test_stages_over_the_memory_budget_share_one_ray(tiny_model, tmp_path):
    """In a process of its own: here another test's Ray may be running."""
    command = [sys.executable, "-c", PLAN_TWICE, str(tiny_model), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", ["lora", "adapter", "prefix", "prompt", "mam"])
def test_joint_with_parts_a_task_is_refused(tiny_model, tmp_path, kind):
    with pytest.raises(SpecError, match=f"joint: tasks learned at once .* false on {kind}"):
        plan_of(tiny_model, tmp_path, [{"type": kind, "per_task": True}], joint=True)


def test_domains_share_their_class_ids_where_one_head_serves_them(tiny_model, tmp_path):
    tasks = {"films": ["positive", "negative"], "books": ["positive", "negative"]}
    shared = plan_of(tiny_model, tmp_path / "one", [], tasks, **DOMAIN).job
    assert [task.class_ids for task in shared.tasks] == [(0, 1), (0, 1)]
    assert len(shared.labels) == 2
    lora = [{"type": "lora", "per_task": True}]
    apart = plan_of(tiny_model, tmp_path / "two", lora, tasks, **DOMAIN).job
    assert [task.class_ids for task in apart.tasks] == [(0, 1), (2, 3)]
    assert apart.labels[:2] == apart.labels[2:]


def test_a_domain_with_a_new_label_is_an_error_where_one_head_serves_all(tiny_model, tmp_path):
    tasks = {"films": ["positive", "negative"], "books": ["positive", "strange"]}
    with pytest.raises(DataError, match=r"task books: one head serves all tasks.*\['strange'\]"):
        plan_of(tiny_model, tmp_path, [], tasks, **DOMAIN)


def test_a_domain_with_fewer_labels_keeps_its_place_in_the_router(tiny_model, tmp_path):
    tasks = {"films": ["book", "film", "recipe"], "books": ["book", "recipe"]}
    job = plan_of(tiny_model, tmp_path, [], tasks, **DOMAIN).job
    assert [task.class_ids for task in job.tasks] == [(0, 1, 2), (0, 2)]
    assert route_tasks(job.tasks).tolist() == [0, 0, 0, 1, 1]
    targets, owners = torch.tensor([0, 1, 2, 0, 2]), torch.tensor([0, 0, 0, 1, 1])
    assert route_classes(job.tasks, targets, owners).tolist() == [0, 1, 2, 3, 4]


def test_test_rows_are_held_out_and_never_trained_on(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [])
    for task in plan.job.tasks:
        trained = set(plan.data.train[task.stage].texts)
        texts = plan.texts[task.id]
        assert len(texts.validation) == len(texts.test) == 12
        assert not trained & set(texts.validation)
        assert not trained & set(texts.test)
        held = plan.data.held_out[task.id]
        assert list(held.rows.texts) == texts.validation + texts.test


@pytest.mark.parametrize("limit", [1, 5, 12, 100])
def test_held_out_rows_are_bounded(tiny_model, tmp_path, limit):
    plan = plan_of(tiny_model, tmp_path, [], data={"max_held_out_rows": limit})
    for texts in plan.texts.values():
        assert 0 < len(texts.validation) <= limit
        assert len(texts.validation) == len(texts.validation_labels)
        assert 0 < len(texts.test) <= limit


@pytest.fixture(scope="module")
def first(tiny_model, tmp_path_factory):
    """A lineage with one version, and its spec's folder."""
    folder = tmp_path_factory.mktemp("first")
    methods = [{"type": "heads", "cosine": True}]
    spec = tiny_spec(tiny_model, folder / "rows", "tiny", ["banking"], methods)
    teach(folder / "home", spec)
    return folder, spec


def version_of(first, target):
    return shutil.copytree(Home(first[0] / "home", None).registry.path("tiny", 1), target)


def test_the_same_structure_goes_on(first):
    folder, spec = first
    check_continues(spec, open_start(Home(folder / "home", None).registry.path("tiny", 1)))


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"scenario": "task_incremental"}, "scenario"),
        ({"methods": ()}, "methods"),
        ({"methods": ({"type": "heads", "cosine": False},)}, "methods"),
        ({"model": {"name": "minilm"}}, "model.name"),
        ({"model": "cls"}, "model.pooling"),
    ],
    ids=str,
)
def test_what_a_lineage_keeps_cannot_change(first, tmp_path, change, where):
    _, spec = first
    if change.get("model") == "cls":
        change = {"model": {"name": spec.model.name, "pooling": "cls"}}
    other = type(spec).model_validate(spec.model_dump() | change)
    with pytest.raises(SpecError) as caught:
        check_continues(other, open_start(version_of(first, tmp_path / "1")))
    assert [problem.where for problem in caught.value.problems] == [where]


def test_methods_without_structure_may_change(first, tmp_path):
    _, spec = first
    more = {"methods": [*spec.model_dump()["methods"], {"type": "ewc"}, {"type": "replay"}]}
    other = type(spec).model_validate(spec.model_dump() | more)
    check_continues(other, open_start(version_of(first, tmp_path / "1")))


def test_other_base_weights_under_the_same_name_are_refused(first, tmp_path):
    _, spec = first
    version = version_of(first, tmp_path / "1")
    path = version / "manifest.json"
    raw = json.loads(path.read_text())
    raw["base_model"]["sha256"] = "0" * 64
    path.write_text(json.dumps(raw))
    with pytest.raises(SpecError, match=r"model\.name: .* those found here differ"):
        check_continues(spec, open_start(version))


def test_a_broken_version_is_not_built_upon(first, tmp_path):
    version = version_of(first, tmp_path / "1")
    path = version / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(VersionError, match=r"weights\.safetensors was changed"):
        open_start(version)


def test_a_spec_names_its_run_by_what_is_taught_and_not_by_how_it_is_judged(first, tmp_path):
    _, spec = first
    start = open_start(None)
    assert run_digest(spec, start) == run_digest(spec, start)
    judged = type(spec).model_validate(spec.model_dump() | {"gate": {"min_accuracy": 0.9}})
    assert run_digest(judged, start) == run_digest(spec, start)
    seeded = type(spec).model_validate(
        spec.model_dump() | {"training": spec.training.model_dump() | {"seed": 5}}
    )
    assert run_digest(seeded, start) != run_digest(spec, start)
    later = open_start(version_of(first, tmp_path / "1"))
    assert run_digest(spec, later) != run_digest(spec, start)


def test_a_task_without_test_rows_is_warned_of(tiny_model, tmp_path):
    spec = tiny_spec(tiny_model, tmp_path / "rows", "tiny", ["banking"], [])
    task = spec.tasks[0].model_copy(update={"test": None})
    (tmp_path / "run").mkdir()
    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    plan = make_plan(
        spec.model_copy(update={"tasks": (task,)}), open_start(None), tokenizer, tmp_path / "run"
    )
    assert [line for line in plan.warnings if line.startswith("test is not given for banking")]
    whole = plan_of(tiny_model, tmp_path / "whole", [], tasks=["banking"])
    assert not [line for line in whole.warnings if line.startswith("test is not given")]


def test_leaving_a_method_out_says_what_is_lost(tiny_model, tmp_path):
    replay = [{"type": "replay", "capacity": 8}]
    teach(tmp_path / "home", tiny_spec(tiny_model, tmp_path / "a", "tiny", ["banking"], replay))
    parent = Home(tmp_path / "home", None).registry.path("tiny", 1)
    dropped = plan_of(tiny_model, tmp_path / "b", [], tasks=["home"], parent=parent)
    assert [line for line in dropped.warnings if "what replay remembers" in line]
    kept = plan_of(tiny_model, tmp_path / "c", replay, tasks=["home"], parent=parent)
    assert not [line for line in kept.warnings if "remembers" in line]
