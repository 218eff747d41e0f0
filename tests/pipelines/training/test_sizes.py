"""How many parameters each task's column has, and how much memory a task took."""

import os
from pathlib import Path

import pytest
import torch

from ratchet.pipelines.training.sizes import CLEAR_REFS, column_sizes, take_peak_memory
from tests.conformance.groups import in_group
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
    assert second.total == counted(model, own) > 0
    assert second.from_base == counted(model, own, ".laterals.base.") > 0
    assert second.from_tasks == {"banking": counted(model, own, ".laterals.from_000.")}
    assert second.own == second.total - counted(model, own, ".laterals.")
    assert first.from_tasks == {}
    assert second.total - first.total == second.from_tasks["banking"] > 0


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


LARGE = 300 * 2**20
RESETS = pytest.mark.skipif(
    not os.access(CLEAR_REFS, os.W_OK), reason="this system cannot reset a peak"
)


def hold_for_a_moment():
    """Take up `LARGE` bytes of real memory, and give them back."""
    torch.ones(LARGE, dtype=torch.uint8).sum()


@RESETS
def test_a_peak_that_was_taken_is_not_seen_again():
    hold_for_a_moment()
    first = take_peak_memory(torch.device("cpu"))
    second = take_peak_memory(torch.device("cpu"))
    assert first - second > 0.9 * LARGE
    assert second > 2**20


@RESETS
@pytest.mark.parametrize("joint", [False, True], ids=["in turn", "at once"])
def test_the_peak_of_one_task_is_not_that_of_the_next(tiny_model, tmp_path, joint):
    plan = plan_of(tiny_model, tmp_path, [], ["banking", "home", "kitchen"], joint=joint)
    teacher = teacher_of(plan)
    end_task = teacher.stack.end_task

    def ending(ctx):
        if any(task.name == "home" for task in ctx.tasks):
            hold_for_a_moment()
        end_task(ctx)

    teacher.stack.end_task = ending
    teacher.run()
    first, second, third = (
        teacher.costs[name]["peak_memory_bytes"] for name in ("banking", "home", "kitchen")
    )
    if joint:
        assert first == second == third
    else:
        assert second - third > 0.9 * LARGE


def peaks(workers, plan):
    teacher = teacher_of(plan, workers=workers)
    if workers.rank == 1:
        hold_for_a_moment()
    teacher.run()
    return [own["peak_memory_bytes"] for own in map(teacher.costs.get, ("banking", "home"))]


@RESETS
def test_the_peak_is_that_of_the_largest_worker(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [], ["banking", "home"])
    one, two = in_group(2, tmp_path / "found", peaks, plan)
    assert one == two
    assert one[0] - one[1] > 0.9 * LARGE
