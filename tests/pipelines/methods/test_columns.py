from itertools import pairwise

import pytest
import torch
from transformers import AutoTokenizer

from ratchet.pipelines.methods.columns import columns_of
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.update.miniature import teach_miniature
from ratchet.pipelines.version import load_version
from tests.conformance.groups import in_group
from tests.conformance.streams import (
    InterruptingCheckpoints,
    Interruption,
    differences,
    knowledge,
    plan_of,
    taught,
    teacher_of,
)
from tests.tiny import MARKERS, TASKS, teach, tiny_spec

PRUNED = {"type": "columns", "width": 0.5, "max_laterals": 1}
EVERY = {"type": "columns", "width": 0.5}


def kept_laterals(model):
    """What each place of each task's column still reads: its levels, then its answer."""
    columns = columns_of(model)
    return {
        task_id: [sorted(place.laterals) for place in columns.column(task_id).places.values()]
        for task_id in columns.parameter_counts()
    }


def test_each_level_keeps_the_base_and_as_many_earlier_columns_as_allowed(tiny_model, tmp_path):
    kept = kept_laterals(taught(plan_of(tiny_model, tmp_path, [PRUNED], TASKS)).model)
    assert kept[0] == [["base"], ["base"], []]
    assert kept[1] == [["base", "from_000"], ["base", "from_000"], ["from_000"]]
    assert [len(sources) for sources in kept[2]] == [2, 2, 1]
    assert all("base" in sources for sources in kept[2][:2])


def lowered(plan, silenced):
    """A stream whose third column has some laterals made weak just before its task ends."""
    teacher = teacher_of(plan)
    method = teacher.stack.methods["columns"]
    end_task, seen = method.end_task, {}

    def ending(ctx):
        if ctx.task.id == 2:
            column = columns_of(ctx.model).column(2)
            with torch.no_grad():
                for level, source in enumerate(silenced[:2]):
                    column.junctions[level].laterals[source].up.weight *= 1e-3
                    column.junctions[level].laterals[source].up.weight += 1e-5
                column.answers.laterals[silenced[2]].scale.fill_(1e-5)
            seen["before"] = answers(teacher, 2)
        end_task(ctx)
        seen["after"] = answers(teacher, 2)

    method.end_task = ending
    teacher.run()
    return teacher, seen


@torch.no_grad()
def answers(teacher, task_id):
    rows = teacher.data.held_out[task_id].rows
    was_training = teacher.model.training
    found = teacher.model.eval().features(rows.batch(range(len(rows))).inputs).clone()
    teacher.model.train(was_training)
    return found


@pytest.mark.parametrize(
    "silenced", [("from_000", "from_001", "from_000"), ("from_001", "from_000", "from_001")]
)
def test_the_laterals_that_add_least_go_level_by_level(tiny_model, tmp_path, silenced):
    plan = plan_of(tiny_model, tmp_path, [PRUNED], TASKS)
    teacher, seen = lowered(plan, silenced)
    for place, source in enumerate(silenced):
        assert source not in kept_laterals(teacher.model)[2][place]
    torch.testing.assert_close(seen["after"], seen["before"], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("number", [5, 9, 11])
def test_a_stream_with_pruned_laterals_goes_on_bit_for_bit(tiny_model, tmp_path, number):
    options = {"training": {"checkpoint_every_steps": 1}}
    plan = plan_of(tiny_model, tmp_path, [PRUNED], [*TASKS], **options)
    undisturbed = taught(plan)
    folder = tmp_path / "cut"
    with pytest.raises(Interruption):
        taught(plan, store=InterruptingCheckpoints(folder, number))
    again = taught(plan, store=InterruptingCheckpoints(folder, -1))
    assert differences(knowledge(undisturbed), knowledge(again)) == []
    assert kept_laterals(undisturbed.model) == kept_laterals(again.model)


def pruned_by(workers, plan):
    return kept_laterals(taught(plan, workers=workers).model)


def test_two_workers_prune_the_same_laterals(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [PRUNED], TASKS)
    one, two = in_group(2, tmp_path / "found", pruned_by, plan)
    assert one == two


def test_a_version_carries_what_was_pruned_and_an_update_goes_on_from_it(tiny_model, tmp_path):
    home, films = tmp_path / "home", {"films": ["film", "book"]}
    for tasks in (list(TASKS), films):
        spec = tiny_spec(tiny_model, tmp_path / str(len(tasks)), "tiny", tasks, [PRUNED])
        teach(home, spec)
    registry = Home(home, None).registry
    loaded, later = (load_version(registry.path("tiny", number)) for number in (1, 2))
    one, two = (columns_of(version.model).parameter_counts() for version in (loaded, later))
    assert one[2].total == one[1].total == two[3].total
    assert {task_id: two[task_id] for task_id in one} == one
    assert kept_laterals(loaded.model).items() <= kept_laterals(later.model).items()
    with torch.no_grad():
        inputs = {"input_ids": torch.tensor([[2, 6, 7, 3]])}
        inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        for task_id in range(3):
            outputs = []
            for version in (loaded, later):
                version.stack.activate(version.model, task_id)
                outputs.append(version.model.eval().features(inputs).clone())
            assert torch.equal(*outputs)


def sizes_of(plan):
    counts = columns_of(taught(plan).model).parameter_counts()
    return [counts[task_id].total for task_id in sorted(counts)]


def test_growth_over_six_tasks_is_quadratic_and_with_pruning_linear(tiny_model, tmp_path):
    labels = list(MARKERS)
    tasks = {f"task_{t}": labels[t : t + 2] for t in range(6)}
    options = {"training": {"num_epochs": 1}, "scenario": "task_incremental"}
    every, pruned = (
        sizes_of(plan_of(tiny_model, tmp_path / str(i), [method], tasks, **options))
        for i, method in enumerate([EVERY, PRUNED])
    )
    lateral = 2 * (1 + 16 * 16 + 16 + 16 * 16) + 1
    assert [later - earlier for earlier, later in pairwise(every)] == [lateral] * 5
    assert [later - earlier for earlier, later in pairwise(pruned)] == [lateral, 0, 0, 0, 0]
    for num_tasks in range(2, 7):
        block = every[0] * num_tasks
        assert sum(every[:num_tasks]) == block + lateral * num_tasks * (num_tasks - 1) // 2
        assert sum(pruned[:num_tasks]) == block + lateral * (num_tasks - 1)


def test_a_plan_measures_what_columns_cost(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [EVERY])
    mini = teach_miniature(plan, AutoTokenizer.from_pretrained(tiny_model))
    first, second = (stage.sizes.learned_parameters for stage in mini.stages)
    lateral = 2 * (1 + 16 * 16 + 16 + 16 * 16) + 1
    assert second == 2 * first + lateral
    assert not mini.looks_again
