import pytest

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.spec.methods.memory_room import memory_problems
from tests.conformance.streams import plan_of

BALANCED = {"type": "replay", "selection": "class_balanced"}
HERDING = {"type": "replay", "selection": "herding"}


def problems(method, *, classes=6, groups=6, workers=0):
    config = METHOD_CONFIGS[method["type"]].model_validate(method)
    return memory_problems([METHOD_CONFIGS["ewc"](), config], classes, groups, workers)


@pytest.mark.parametrize(
    ("method", "counts", "needed"),
    [
        ({"type": "replay"}, {}, 6),
        ({"type": "der"}, {}, 6),
        ({"type": "agem"}, {}, 6),
        (BALANCED, {}, 6),
        (HERDING, {}, 6),
        (HERDING, {"workers": 1}, 6),
        (HERDING, {"workers": 3}, 18),  # every worker keeps its own share of every class
        ({"type": "replay"}, {"workers": 3}, 6),
        (BALANCED, {"classes": 2, "groups": 8}, 8),  # the same two classes in four tasks
        ({"type": "replay"}, {"classes": 2, "groups": 8}, 2),
    ],
    ids=str,
)
def test_a_memory_that_must_leave_out_classes_is_refused(method, counts, needed):
    assert problems(method | {"capacity": needed}, **counts) == []
    assert problems(method | {"capacity": 0}, **counts) == []
    (problem,) = problems(method | {"capacity": needed - 1}, **counts)
    assert problem.where == "methods[1].capacity"
    assert problem.value == needed - 1
    assert f"at least {needed}" in problem.message
    assert str(needed) in problem.hint


def test_methods_without_a_memory_need_no_room():
    assert memory_problems([METHOD_CONFIGS["ewc"](), METHOD_CONFIGS["lwf"]()], 150, 150, 4) == []


@pytest.mark.parametrize("method", [{"type": "replay"}, {"type": "der"}, BALANCED], ids=str)
def test_it_is_said_before_anything_is_taught(tiny_model, tmp_path, method):
    with pytest.raises(SpecError, match=r"methods\[0\]\.capacity: .* 4 classes.*\(got 3\)"):
        plan_of(tiny_model, tmp_path, [method | {"capacity": 3}])
    assert plan_of(tiny_model, tmp_path, [method | {"capacity": 4}]).job.tasks
