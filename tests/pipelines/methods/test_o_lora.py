import pytest
import torch

from ratchet.pipelines.methods.o_lora import OLora
from ratchet.pipelines.models.classifier import load_classifier
from ratchet.pipelines.spec.methods import METHOD_CONFIGS, stack_problems
from ratchet.pipelines.spec.methods.adapters import OLoraConfig
from ratchet.pipelines.types import Task
from tests.conformance.streams import plan_of, taught
from tests.pipelines.methods.contexts import context_of
from tests.tiny import TASKS

FIRST, SECOND, THIRD = (Task(i, "abc"[i], (2 * i, 2 * i + 1), i) for i in range(3))
INPUTS = {"input_ids": torch.tensor([[2, 6, 7, 3]]), "attention_mask": torch.ones(1, 4).long()}


def summed(folder, tasks=(FIRST,), **settings):
    model = load_classifier(str(folder)).eval()
    method = OLora(OLoraConfig(rank=2, alpha=8.0, **settings))
    for task in tasks:
        method.expand(model, task)
    method.activate(model, tasks[0].id)
    return model, method


def fill(model, scale=0.3):
    """Give every second factor values: they start at zero."""
    numbers = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(scale * torch.randn(parameter.shape, generator=numbers))


def factors(model, letter, adapter):
    return {
        name.partition(".lora_")[0]: tensor
        for name, tensor in model.backbone.state_dict().items()
        if f"lora_{letter}.{adapter}." in name
    }


def test_all_adapters_answer_summed_with_alpha_over_rank(tiny_model):
    model, _ = summed(tiny_model, (FIRST, SECOND, THIRD))
    fill(model)
    plain = load_classifier(str(tiny_model)).eval()
    with torch.no_grad():
        for adapter in ("sum_000", "sum_001", "sum_002"):
            down, up = factors(model, "A", adapter), factors(model, "B", adapter)
            assert len(down) == 12  # six linear layers in each of two blocks
            for name, a in down.items():
                layer = plain.backbone.get_submodule(name.removeprefix("base_model.model."))
                layer.weight += (8.0 / 2) * up[name] @ a
        torch.testing.assert_close(model.features(INPUTS), plain.features(INPUTS))


def test_only_the_newest_adapter_trains_whatever_task_is_asked(tiny_model):
    model, method = summed(tiny_model, (FIRST, SECOND))
    for task_id in (0, 1):
        method.activate(model, task_id)
        assert all("sum_001" in name for name in model.trainable())
        assert len(model.trainable()) == 24
    model.base_features(INPUTS)
    assert all("sum_001" in name for name in model.trainable())


def test_the_penalty_is_the_sum_of_absolute_products_of_the_first_factors(tiny_model):
    model, method = summed(tiny_model, (FIRST, SECOND, THIRD), strength=0.25)
    ctx = context_of(model, [], [THIRD], [FIRST, SECOND])
    wanted = 0.0
    newest = factors(model, "A", "sum_002")
    for adapter in ("sum_000", "sum_001"):
        for name, old in factors(model, "A", adapter).items():
            for row in old:
                for column in newest[name]:
                    wanted += abs(float((row.double() * column.double()).sum()))
    found = method.loss(ctx, None, None)
    assert found.item() == pytest.approx(0.25 * wanted, rel=1e-5)
    assert wanted > 0.1


def test_the_gradient_of_the_penalty_reaches_the_newest_adapter_alone(tiny_model):
    model, method = summed(tiny_model, (FIRST, SECOND))
    method.loss(context_of(model, [], [SECOND], [FIRST]), None, None).backward()
    old, new = factors(model, "A", "sum_000"), factors(model, "A", "sum_001")
    graded = {name for name, p in model.named_parameters() if p.grad is not None}
    assert len(graded) == 12
    name = min(new)
    gradient = model.backbone.get_parameter(f"{name}.lora_A.sum_001.weight").grad
    signs = torch.sign(old[name] @ new[name].T)
    torch.testing.assert_close(gradient, 0.5 * signs.T @ old[name])


def test_orthogonal_adapters_pay_nothing(tiny_model):
    model, method = summed(tiny_model, (FIRST, SECOND))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_A" in name:
                parameter.zero_()
                start = 2 if "sum_001" in name else 0
                parameter[:, start : start + 2] = torch.eye(2)
    assert method.loss(context_of(model, [], [SECOND], [FIRST]), None, None).item() == 0


@pytest.mark.parametrize("strength", [0.0, 0.5])
def test_the_first_task_pays_nothing(tiny_model, strength):
    model, method = summed(tiny_model, strength=strength)
    assert method.loss(context_of(model, [], [FIRST]), None, None) is None


def test_the_first_task_is_plain_lora(tiny_model, tmp_path):
    lora = taught(plan_of(tiny_model, tmp_path / "a", [{"type": "lora", "rank": 2}], ("home",)))
    mine = taught(plan_of(tiny_model, tmp_path / "b", [{"type": "o_lora", "rank": 2}], ("home",)))
    wanted = lora.model.learned_state()
    found = mine.model.learned_state()
    assert {name.replace("sum_000", "shared") for name in found} == wanted.keys()
    for name, tensor in found.items():
        assert torch.equal(tensor, wanted[name.replace("sum_000", "shared")])


def overlaps(teacher):
    """Sums over the layers of |A_i A_t^T| between the first adapter and the second."""
    old, new = (factors(teacher.model, "A", f"sum_00{i}") for i in (0, 1))
    return sum(float((old[name] @ new[name].T).abs().sum()) for name in old)


def test_a_strength_pushes_the_second_adapter_out_of_the_first_one_s_directions(
    tiny_model, tmp_path
):
    found = {}
    for strength in (0.0, 0.5):
        plan = plan_of(
            tiny_model,
            tmp_path / str(strength),
            [{"type": "o_lora", "rank": 2, "strength": strength}],
            training={"num_epochs": 12},
        )
        found[strength] = overlaps(taught(plan))
    assert found[0.5] < 0.5 * found[0.0]


def test_old_adapters_stay_as_they_were_and_the_head_grows(tiny_model, tmp_path):
    stack = [{"type": "o_lora", "rank": 2}]
    one = taught(plan_of(tiny_model, tmp_path / "one", stack, ("banking",)))
    three = taught(plan_of(tiny_model, tmp_path / "three", stack, tuple(TASKS)))
    before, after = one.model.learned_state(), three.model.learned_state()
    kept = [name for name in before if "sum_000" in name]
    assert len(kept) == 24
    assert all(torch.equal(before[name], after[name]) for name in kept)
    assert not three.model.has_task_adapters
    assert three.model.head.layout == "growing"


def test_an_anchor_beside_it_is_refused():
    methods = [OLoraConfig(), METHOD_CONFIGS["ewc"]()]
    (problem,) = stack_problems(methods, "class_incremental")
    assert "o_lora makes what trains anew for each task" in str(problem)
