import pytest
import torch

from ratchet.pipelines.methods.wise_ft import WiseFt, was_before
from ratchet.pipelines.spec.methods.regularization import WiseFtConfig
from tests.conformance.streams import plan_of, problems_of, taught, teacher_of
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, context_of

WISE = {"type": "wise_ft", "strength": 0.25}
FAST = {"num_epochs": 12, "learning_rate": 3e-3}


def fill(model, value):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(value)


def second_task(strength, saved=False):
    """Weights of an old and a new block that were 2 when the task began and 6 at its end."""
    model = Logistic(1)
    model.heads.add(TASK)
    model.heads.add(NEXT)
    method, ctx = WiseFt(WiseFtConfig(strength=strength)), context_of(model, [], [NEXT], [TASK])
    fill(model, 2.0)
    method.begin_task(ctx)
    method.begin_epoch(ctx)
    fill(model, 4.0)
    if saved:
        state, method = method.state_dict(), WiseFt(WiseFtConfig(strength=strength))
        method.load_state_dict(state)
    method.begin_epoch(ctx)  # of the second epoch, or again after a restore
    fill(model, 6.0)
    method.end_task(ctx)
    assert method.state_dict().tensors == {}
    return {name: p.unique().item() for name, p in model.named_parameters()}


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize(("strength", "kept"), [(0.0, 6.0), (0.25, 5.0), (0.5, 4.0), (1.0, 2.0)])
def test_old_weights_go_back_by_the_share_and_a_new_head_stays(strength, kept, saved):
    # 0.25 * 2 + 0.75 * 6 = 5.
    for name, value in second_task(strength, saved).items():
        assert value == (6.0 if "task_001" in name else kept), name


@pytest.mark.parametrize(
    ("name", "seen", "expected"),
    [
        ("backbone.layer.0.weight", set(), True),
        ("parts.adapter.sets.shared.down.weight", set(), True),
        ("heads.blocks.task_000.weight", set(), False),
        ("heads.blocks.task_000.weight", {0}, True),
        ("heads.blocks.task_001.weight", {0}, False),
        ("heads.blocks.task_002.weight", {0, 1}, False),  # made for a task to come
        ("heads.blocks.shared.weight", set(), False),
        ("heads.blocks.shared.weight", {0}, True),
    ],
)
def test_only_what_was_there_before_the_task_can_go_back_to_it(name, seen, expected):
    assert was_before(name, seen) is expected


def test_all_the_way_back_the_backbone_is_the_base_and_the_head_has_learned(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [WISE | {"strength": 1.0}], ("banking",))
    base = {k: v.clone() for k, v in teacher_of(plan).model.backbone.state_dict().items()}
    model = taught(plan).model
    assert all(torch.equal(base[k], v) for k, v in model.backbone.state_dict().items())
    plain = taught(plan_of(tiny_model, tmp_path / "plain", [], ("banking",))).model
    heads = dict(plain.heads.named_parameters())
    assert all(torch.equal(heads[k], v) for k, v in model.heads.named_parameters())


def test_a_first_task_goes_back_towards_the_base_by_hand(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [WISE], ("banking",))
    base = {k: v.clone() for k, v in teacher_of(plan).model.state_dict().items()}
    found = taught(plan).model.state_dict()
    trained = taught(plan_of(tiny_model, tmp_path / "plain", [], ("banking",))).model.state_dict()
    moved = 0
    for name, weight in trained.items():
        if name.startswith("backbone.") and weight.is_floating_point():
            wanted = 0.75 * weight.double() + 0.25 * base[name].double()
            torch.testing.assert_close(found[name].double(), wanted, rtol=1e-6, atol=1e-7)
            moved += int(not torch.equal(weight, base[name]))
        else:
            assert torch.equal(found[name], weight)
    assert moved > 0


def test_what_trained_in_a_warm_up_only_goes_back_too(tiny_model, tmp_path):
    methods = [{"type": "freeze", "warmup_epochs": 1}, WISE | {"strength": 1.0}]
    plan = plan_of(tiny_model, tmp_path, methods)
    base = {k: v.clone() for k, v in teacher_of(plan).model.backbone.state_dict().items()}
    model = taught(plan).model
    assert all(torch.equal(base[k], v) for k, v in model.backbone.state_dict().items())


@pytest.mark.parametrize("first", [True, False], ids=["before it", "behind it"])
@pytest.mark.parametrize(
    "other",
    [
        {"type": "ewc", "strength": 10.0},
        {"type": "mas", "strength": 10.0},
        {"type": "si", "strength": 50.0},
        {"type": "l2_sp", "strength": 1.0, "towards": "last"},
    ],
    ids=lambda other: other["type"],
)
def test_anchors_are_the_weights_that_are_kept(tiny_model, tmp_path, other, first):
    methods = [WISE, other] if first else [other, WISE]
    teacher = taught(plan_of(tiny_model, tmp_path, methods))
    held = teacher.stack.methods[other["type"]].state_dict().tensors
    prefix = "" if other["type"] == "l2_sp" else "center/"
    trained = teacher.model.trainable()
    anchors = {name: held[f"{prefix}{name}"] for name in trained if f"{prefix}{name}" in held}
    assert any(name.startswith("backbone.") for name in anchors)
    assert all(torch.equal(anchors[name], trained[name]) for name in anchors)


def test_importances_are_measured_where_the_weights_are_kept(tiny_model, tmp_path):
    """Whichever stands first, the Fisher is that of the interpolated model."""
    fisher = {"type": "ewc", "strength": 1.0, "labels": "observed"}
    found = [
        taught(plan_of(tiny_model, tmp_path / str(place), methods, ("banking",)))
        for place, methods in enumerate(([WISE, fisher], [fisher, WISE], [fisher]))
    ]
    one, other, plain = (t.stack.methods["ewc"].penalty.importance for t in found)
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert any(not torch.equal(one[name], plain[name]) for name in one)


def test_an_old_task_is_kept_better_than_by_fine_tuning(tiny_model, tmp_path):
    found = {}
    for strength in (0.0, 0.6):
        methods = [{"type": "wise_ft", "strength": strength}]
        plan = plan_of(tiny_model, tmp_path / str(strength), methods, training=FAST)
        learned, final = (row["banking"]["test_own"] for row in taught(plan).scores)
        found[strength] = (learned, final)
    assert found[0.6][1] >= found[0.0][1]


@pytest.mark.parametrize(
    ("owner", "words"),
    [
        ({"type": "lora", "per_task": True}, "only a fresh adapter trains"),
        ({"type": "columns"}, "only a task's own part of columns trains"),
        ({"type": "o_lora"}, "no old weight can be held"),
        ({"type": "experts"}, "no old weight can be held"),
        ({"type": "analytic"}, "trains nothing by gradient"),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_where_nothing_old_trains_the_stack_is_refused(owner, words):
    (problem,) = problems_of([owner, WISE])
    assert problem.where == "methods[1]"
    assert problem.message.startswith("wise_ft has nothing to protect: ")
    assert words in problem.message


@pytest.mark.parametrize("owner", ["freeze", "lora", "adapter", "prefix", "osf"])
def test_what_all_tasks_share_may_go_back(owner):
    assert problems_of([{"type": owner}, WISE]) == []


@pytest.mark.parametrize("strength", [-0.1, 1.1])
def test_a_share_lies_between_0_and_1(strength):
    with pytest.raises(ValueError, match="strength"):
        WiseFtConfig(strength=strength)
