"""Covers, beside `stream`: `checks`, `cutting`, `findings`, `rows`."""

import gc
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from ratchet.pipelines.data.stream import load_stream
from ratchet.pipelines.errors import DataError
from ratchet.pipelines.spec.update_spec import UpdateSpec

CLINC = Path(__file__).parents[4] / "shared" / "data" / "clinc150"


def spec(**changes) -> UpdateSpec:
    return UpdateSpec.model_validate({"lineage": "test", "model": {"name": "any"}} | changes)


def write(path: Path, *rows: tuple) -> str:
    """Rows as (text, label) or (text, label, domain)."""
    lines = [json.dumps(dict(zip(("text", "label", "domain"), row, strict=False))) for row in rows]
    path.write_text("\n".join(lines))
    return str(path)


def many(label: str, count: int, *more: str) -> list[tuple]:
    return [(f"{label} number {i}", label, *more) for i in range(count)]


@pytest.fixture
def task(tmp_path):
    """Makes a sound task of two labels, with some splits replaced."""

    def make(name="shop", **splits):
        labels = splits.pop("labels", (f"{name}-buy", f"{name}-sell"))
        sound = {
            split: [(f"{name} {split} {label} {i}", label) for label in labels for i in range(3)]
            for split in ("train", "validation", "test")
        }
        return {"name": name} | {
            split: write(tmp_path / f"{name}.{split}.jsonl", *rows)
            for split, rows in (sound | splits).items()
            if rows is not None
        }

    return make


def problems_of(update: UpdateSpec, taught=None) -> list[str]:
    with pytest.raises(DataError) as caught:
        load_stream(update, taught)
    return [str(problem) for problem in caught.value.problems]


def test_a_list_of_tasks_is_loaded_in_order(task):
    stream = load_stream(spec(tasks=[task("b"), task("a")]))
    assert [t.name for t in stream.tasks] == ["b", "a"]
    assert stream.tasks[0].labels == ("b-buy", "b-sell")
    assert {name: len(rows) for name, rows in stream.tasks[0].splits().items()} == {
        "train": 6,
        "validation": 6,
        "test": 6,
    }
    assert stream.warnings == ()


def test_missing_validation_is_cut_from_train_and_said(tmp_path):
    rows = many("buy", 20) + many("sell", 10) + many("rare", 2)
    update = {"tasks": [{"name": "shop", "train": write(tmp_path / "a.jsonl", *rows)}]}
    stream = load_stream(spec(**update))
    cut = stream.tasks[0]
    assert Counter(cut.validation.labels) == {"buy": 2, "sell": 1, "rare": 1}
    assert set(cut.train.texts) | set(cut.validation.texts) == {row[0] for row in rows}
    assert not set(cut.train.texts) & set(cut.validation.texts)
    assert cut.test is None
    assert len(stream.warnings) == 1
    assert "validation is not given for shop: 10%" in stream.warnings[0]
    again = load_stream(spec(**update)).tasks[0]
    assert again.validation.texts == cut.validation.texts
    other = load_stream(spec(**update, training={"seed": 1})).tasks[0]
    assert other.validation.texts != cut.validation.texts


def test_the_cut_does_not_put_a_repeated_text_on_both_sides(tmp_path):
    rows = many("buy", 20) * 2 + many("sell", 20)
    stream = load_stream(
        spec(tasks=[{"name": "shop", "train": write(tmp_path / "a.jsonl", *rows)}])
    )
    assert not any("also stand" in warning for warning in stream.warnings)
    assert Counter(stream.tasks[0].validation.labels) == {"sell": 2}


DOMAINS = [
    *many("z", 2, "home"),
    *many("y", 2, "home"),
    *many("b", 2, "bank"),
    *many("a", 2, "bank"),
]


@pytest.mark.parametrize(
    ("order", "names", "labels"),
    [
        ("sorted", ["bank", "home"], [("a", "b"), ("y", "z")]),
        ("given", ["home", "bank"], [("z", "y"), ("b", "a")]),
    ],
)
def test_a_stream_is_cut_by_a_column(tmp_path, order, names, labels):
    path = write(tmp_path / "a.jsonl", *DOMAINS)
    tasks = load_stream(spec(stream={"train": path, "by": "domain", "order": order})).tasks
    assert [t.name for t in tasks] == names
    assert [t.labels for t in tasks] == labels


@pytest.mark.parametrize(
    ("order", "labels"),
    [("sorted", [("a", "b", "y"), ("z",)]), ("given", [("z", "y", "b"), ("a",)])],
)
def test_a_stream_is_cut_by_classes(tmp_path, order, labels):
    path = write(tmp_path / "a.jsonl", *DOMAINS)
    stream = load_stream(spec(stream={"train": path, "classes_per_task": 3, "order": order}))
    assert [t.name for t in stream.tasks] == ["classes_000", "classes_001"]
    assert [t.labels for t in stream.tasks] == labels
    assert [set(t.train.labels) for t in stream.tasks] == [set(part) for part in labels]
    assert "single label" in stream.warnings[0]


def test_a_seed_shuffles_the_classes_and_nothing_else(tmp_path):
    rows = [row for i in range(30) for row in many(f"label{i:02d}", 2)]
    path = write(tmp_path / "a.jsonl", *rows)

    def cut(order):
        stream = spec(stream={"train": path, "classes_per_task": 3, "order": order})
        return [t.labels for t in load_stream(stream).tasks]

    assert cut(1) == cut(1)
    assert cut(1) != cut(2)
    assert cut(1) != cut("sorted")
    assert sorted(label for labels in cut(1) for label in labels) == sorted({r[1] for r in rows})
    assert all(labels == tuple(sorted(labels)) for labels in cut(1))


def test_classes_are_numbered_on_after_those_that_were_taught(tmp_path):
    path = write(tmp_path / "a.jsonl", *DOMAINS)
    update = spec(stream={"train": path, "classes_per_task": 2})
    stream = load_stream(update, {"classes_000": ["k", "l"], "other": ["m", "n"]})
    assert [t.name for t in stream.tasks] == ["classes_001", "classes_002"]


def test_values_that_are_no_names_are_made_into_names(tmp_path):
    rows = [*many("a", 2, "credit cards"), *many("b", 2, "credit cards")]
    update = spec(stream={"train": write(tmp_path / "a.jsonl", *rows), "by": "domain"})
    assert [t.name for t in load_stream(update).tasks] == ["credit_cards"]
    rows += [*many("c", 2, "credit/cards"), *many("d", 2, "credit/cards")]
    update = spec(stream={"train": write(tmp_path / "b.jsonl", *rows), "by": "domain"})
    assert "'credit/cards' makes no task name of its own" in problems_of(update)[0]


def test_a_stream_whose_splits_lack_rows_of_a_task_is_refused(tmp_path):
    train = write(tmp_path / "train.jsonl", *DOMAINS)
    home = write(tmp_path / "home.jsonl", ("hi z", "z", "home"), ("hi q", "z", "garden"))
    stream = {"train": train, "validation": home, "test": home, "by": "domain"}
    found = problems_of(spec(stream=stream))
    assert f"{home}:2: unknown domain 'garden' in 1 rows" in found[0]
    assert "task bank: its validation split has no rows" in "\n".join(found)
    assert "task bank: its test split has no rows" in "\n".join(found)


def test_problems_of_all_tasks_and_splits_are_reported_together(task, tmp_path):
    broken = task("b", train=[("x", "one label"), ("y", "one label")], validation=None)
    broken["validation"] = str(tmp_path / "absent.jsonl")
    (tmp_path / "a.test.jsonl").write_bytes(b"\xff\n")
    sound = task("a", test=None)
    found = "\n".join(
        problems_of(
            spec(
                tasks=[
                    sound | {"test": str(tmp_path / "a.test.jsonl")},
                    broken,
                    task("c", train=[("x", "l"), ("y", "l")]),
                ]
            )
        )
    )
    assert f"{tmp_path / 'a.test.jsonl'}:1: not UTF-8" in found
    assert "absent.jsonl: no such file" in found
    assert f"{tmp_path / 'c.train.jsonl'}:1: task 'c' has a single label, 'l'" in found


def test_an_unknown_label_is_named_with_the_nearest(task, tmp_path):
    rows = [("p", "shop-buy"), ("q", "shop-sel"), ("r", "shop-sel")]
    (found,) = problems_of(spec(tasks=[task(test=rows)]))
    assert found.startswith(f"{tmp_path / 'shop.test.jsonl'}:2: unknown label 'shop-sel' in 2 test")
    assert "Did you mean 'shop-sell'?" in found


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.parametrize(
    ("splits", "where", "part"),
    [
        (
            {"train": [("a", "x"), ("b", "y"), ("a", "x"), ("a", "x")]},
            "shop.train.jsonl:3",
            "2 duplicate rows",
        ),
        (
            {"train": [("a", "x"), ("b", "y"), ("a", "y")]},
            "shop.train.jsonl:3",
            "'y' here and 'x' at",
        ),
        (
            {"train": [("a", "x"), ("b", "y")], "test": [("c", "x"), ("b", "y"), ("a", "y")]},
            "shop.test.jsonl:2",
            "2 of 3 test rows of task 'shop' also stand in train",
        ),
        (
            {"train": [("a", "x"), ("b", "y")], "validation": [("b", "y"), ("d", "y")]},
            "shop.validation.jsonl:1",
            "1 of 2 validation rows of task 'shop' also stand in train",
        ),
        (
            {"validation": [("d", "y"), ("e", "x")], "test": [("c", "x"), ("d", "y")]},
            "shop.test.jsonl:2",
            "1 of 2 test rows of task 'shop' also stand in validation",
        ),
    ],
)
def test_repeats_and_leaks_warn_and_are_errors_when_strict(
    task, tmp_path, strict, splits, where, part
):
    update = spec(tasks=[task(labels=("x", "y"), **splits)], data={"strict": strict})
    found = problems_of(update) if strict else list(load_stream(update).warnings)
    assert len(found) == 1
    assert found[0].startswith(f"{tmp_path / where}: ")
    assert part in found[0]
    assert ("data.strict" in found[0]) is strict


def test_a_leak_into_another_tasks_train_is_found(task, tmp_path):
    tasks = [task("a", test=[("copied", "a-buy")]), task("b")]
    with open(tmp_path / "b.train.jsonl", "a") as file:
        file.write('\n{"text": "copied", "label": "b-buy"}')
    (warning,) = load_stream(spec(tasks=tasks)).warnings
    assert "test rows of task 'a' also stand in train" in warning
    assert "b.train.jsonl:7" in warning


@pytest.mark.parametrize(
    ("scenario", "forbidden"),
    [("class_incremental", True), ("task_incremental", False), ("domain_incremental", False)],
)
def test_a_shared_label_is_refused_where_the_scenario_forbids_it(
    task, tmp_path, scenario, forbidden
):
    tasks = [task("a", labels=("yes", "no")), task("b", labels=("no", "yes"))]
    update = spec(tasks=tasks, scenario=scenario)
    if forbidden:
        (found,) = problems_of(update)
        assert found.startswith(f"{tmp_path / 'b.train.jsonl'}:1: tasks 'a' and 'b' share 2 labels")
    else:
        assert load_stream(update).warnings == ()


def test_labels_and_names_of_taught_tasks_are_taken(task):
    found = problems_of(spec(tasks=[task("a"), task("b")]), {"old": ["b-buy"], "a": ["q", "r"]})
    assert "tasks 'old' and 'b' share the label 'b-buy'" in "\n".join(found)
    assert "task a: this lineage has learned a task of this name already" in "\n".join(found)
    assert len(found) == 2


def test_a_new_label_in_a_new_domain_is_suspicious(task):
    tasks = [task("a", labels=("x", "y")), task("b", labels=("x", "z"))]
    (warning,) = load_stream(spec(tasks=tasks, scenario="domain_incremental")).warnings
    assert "brings the label 'z' that no earlier task has" in warning


def test_the_cut_is_the_same_in_every_process(tmp_path):
    rows = [row for i in range(6) for row in many(f"label{i}", 20)]
    train = write(tmp_path / "a.jsonl", *rows)
    code = f"""
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.data.stream import load_stream
spec = UpdateSpec(lineage="x", model={{"name": "m"}}, tasks=[{{"name": "a", "train": {train!r}}}])
print(load_stream(spec).tasks[0].validation.texts)
"""
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert b"label3 number" in outputs.pop()


@pytest.mark.parametrize("folder", [None, "spilled"])
def test_data_over_the_budget_are_spilled_and_give_the_same_stream(tmp_path, folder):
    rows = [row for i in range(8) for row in many(f"label{i}", 20)] + [
        ("label0 number 0", "label0")
    ]
    train = write(tmp_path / "a.jsonl", *rows)
    stream = {"train": train, "classes_per_task": 4, "order": 1}
    kept = load_stream(spec(stream=stream))
    place = None if folder is None else tmp_path / folder
    spilled = load_stream(spec(stream=stream, data={"memory_budget_mb": 0.001}), None, place)
    assert spilled.warnings == kept.warnings
    assert "1 duplicate rows" in kept.warnings[0]
    for ours, theirs in zip(spilled.tasks, kept.tasks, strict=True):
        assert not isinstance(ours.train.texts, list)
        for split, rows_kept in theirs.splits().items():
            rows_spilled = ours.splits()[split]
            assert list(rows_spilled.texts) == rows_kept.texts
            assert rows_spilled.labels == rows_kept.labels
            assert list(rows_spilled.origins) == list(rows_kept.origins)
    if place is not None:
        assert [path.name for path in place.iterdir()] == ["source_0001"]


def test_spilled_texts_leave_no_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    train = write(tmp_path / "a.jsonl", *many("a", 20), *many("b", 20))
    update = spec(tasks=[{"name": "x", "train": train}], data={"memory_budget_mb": 0.001})
    stream = load_stream(update)
    assert len(list((tmp_path / "temporary").iterdir())) == 1
    assert stream.tasks[0].train.texts[0].startswith("a number")
    del stream
    gc.collect()
    assert list((tmp_path / "temporary").iterdir()) == []


@pytest.mark.skipif(not CLINC.exists(), reason="the CLINC150 data is not beside the checkout")
def test_clinc_is_cut_into_fifteen_tasks_of_ten_classes():
    splits = {
        split: str(CLINC / f"{file}.jsonl")
        for split, file in (("train", "train"), ("validation", "val"), ("test", "test"))
    }
    tasks = load_stream(spec(stream=splits | {"classes_per_task": 10})).tasks
    assert len(tasks) == 15
    assert {len(t.train) for t in tasks} == {1000}
    assert {len(t.validation) for t in tasks} == {200}
    assert {len(t.test) for t in tasks if t.test} == {300}
