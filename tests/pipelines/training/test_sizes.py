"""How many parameters each task's column has."""

from pathlib import Path

import torch

from pipelines.training.sizes import column_sizes
from tests.conformance.streams import plan_of, teacher_of
from tests.tiny import teach, tiny_spec

COLUMNS = [{"type": "columns", "width": 0.5}]


def counted(model, *words):
    """Numbers in the parameters whose names hold all of some words."""
    return sum(
        parameter.numel()
        for name, parameter in model.named_parameters()
        if all(word in name for word in words)
    )


def expanded(model, folder, methods):
    teacher = teacher_of(plan_of(model, folder, methods))
    for task in teacher.job.tasks:
        teacher.stack.expand(teacher.model, task)
    return teacher.model, teacher.job.tasks


def test_a_columns_parameters_are_told_from_those_of_its_laterals(tiny_model, tmp_path):
    model, tasks = expanded(tiny_model, tmp_path, COLUMNS)
    first, second = (column_sizes(model, tasks)[task.name] for task in tasks)
    own = "parts.columns.task_001."
    assert second["total"] == counted(model, own) > 0
    assert second["from_base"] == counted(model, own, ".laterals.base.") > 0
    assert second["from_tasks"] == {"banking": counted(model, own, ".laterals.from_000.")}
    assert second["own"] == second["total"] - counted(model, own, ".laterals.")
    assert first["from_tasks"] == {}
    assert second["total"] - first["total"] == second["from_tasks"]["banking"] > 0


def test_pruned_laterals_are_not_counted(tiny_model, tmp_path):
    model, tasks = expanded(tiny_model, tmp_path, COLUMNS)
    column = model.parts["columns"].column(1)
    for place, junction in column.places.items():
        column.prune(place, "from_000", torch.zeros_like(junction.shift))
    first, second = (column_sizes(model, tasks)[task.name] for task in tasks)
    assert second == first


def test_other_stacks_have_no_columns(tiny_model, tmp_path):
    assert column_sizes(*expanded(tiny_model, tmp_path, [{"type": "lora", "rank": 2}])) == {}


def test_the_result_and_the_report_show_them(tiny_model, tmp_path):
    training = {"num_epochs": 1}
    first = tiny_spec(tiny_model, tmp_path, "tiny", ["banking"], COLUMNS, training=training)
    second = tiny_spec(tiny_model, tmp_path, "tiny", ["home"], COLUMNS, training=training)
    one, two = (teach(tmp_path / "home", spec) for spec in (first, second))
    column = two["costs"]["home"]["column"]
    assert column["from_tasks"].keys() == {"banking"}
    assert 0 < column["total"] <= two["costs"]["home"]["parameters_added"]
    assert one["costs"]["banking"]["column"]["total"] < column["total"]
    page = Path(two["report"]).read_text(encoding="utf-8")
    assert page.split("<h2>Columns</h2>")[1].count("From the base") == 3  # a heading, two tasks
