import pytest
import torch
from transformers import FunnelConfig, FunnelModel

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.experts import Experts, experts_of
from ratchet.pipelines.models.classifier import Classifier, load_classifier
from ratchet.pipelines.spec.methods import stack_problems
from ratchet.pipelines.spec.methods.growth import ExpertsConfig
from ratchet.pipelines.spec.methods.regularization import EwcConfig
from ratchet.pipelines.types import Task
from tests.conformance.streams import differences, knowledge, plan_of, taught, teacher_of
from tests.tiny import TASKS

EXPERTS = {"type": "experts", "bottleneck": 4}


def groups(teacher, name):
    """Everything that one task's experts and gate rows hold."""
    state = experts_of(teacher.model).state_dict()
    return {key: tensor.clone() for key, tensor in state.items() if f".{name}." in key}


@pytest.mark.parametrize("others", [[], [{"type": "replay", "capacity": 10}]], ids=["", "replay"])
def test_old_experts_and_their_gate_rows_never_change(tiny_model, tmp_path, others):
    options = {"training": {"weight_decay": 0.5}}
    teacher = teacher_of(plan_of(tiny_model, tmp_path, [EXPERTS, *others], TASKS, **options))
    method, found = teacher.stack.methods["experts"], {}
    method.end_task = lambda ctx: found.update({ctx.task.id: groups(teacher, "grown_000")})
    teacher.run()
    assert any(name.endswith("gate.weight") for name in found[0])
    assert differences(found[0], found[1]) == differences(found[0], found[2]) == []
    fresh = groups(teacher, "grown_002")
    assert all(tensor.any() for name, tensor in fresh.items() if name.endswith("up.weight"))


def test_the_balance_weighs_on_the_gate_from_the_second_task_on(tiny_model, tmp_path):
    found = []
    for balance in (0.0, 1.0):
        plan = plan_of(tiny_model, tmp_path / str(balance), [EXPERTS | {"balance": balance}])
        found.append(knowledge(taught(plan)))
    changed = differences(*found)
    assert any(".grown_001.gate." in name for name in changed if name.startswith("model/"))
    assert not any(".grown_000." in name for name in changed)


def test_the_teacher_of_distillation_does_not_learn_with_the_new_experts(tiny_model, tmp_path):
    teacher = teacher_of(plan_of(tiny_model, tmp_path, [EXPERTS, {"type": "lwf"}]))
    lwf, copies = teacher.stack.methods["lwf"], []
    loss = lwf.loss

    def watched(ctx, batch, output):
        if lwf._teacher is not None:
            state = lwf._teacher.parts["experts"].state_dict()
            copies.append({name: tensor.clone() for name, tensor in state.items()})
        return loss(ctx, batch, output)

    lwf.loss = watched
    teacher.run()
    assert len(copies) == 4
    assert all(differences(copies[0], other) == [] for other in copies[1:])


def test_an_unknown_architecture_is_refused_before_training(tiny_model):
    config = FunnelConfig(
        vocab_size=50, d_model=16, n_head=2, d_head=8, d_inner=16, block_sizes=[1, 1]
    )
    tokenizer = load_classifier(str(tiny_model)).tokenizer
    model = Classifier(FunnelModel(config), tokenizer, "funnel", str(tiny_model))
    with pytest.raises(MethodError, match=r"experts does not know where .* 'funnel'"):
        Experts(ExpertsConfig()).expand(model, Task(0, "first", (0, 1)))
    assert "experts" not in model.parts
    assert model.backbone_trains


def test_weights_that_are_made_anew_cannot_be_anchored():
    problems = stack_problems([ExpertsConfig(), EwcConfig()], "class_incremental")
    assert "makes what trains anew" in str(problems[0])


def test_gradients_flow_into_gate_and_experts_through_what_they_answer(tiny_model):
    model = load_classifier(str(tiny_model))
    method = Experts(ExpertsConfig(bottleneck=4, experts_per_task=2))
    method.expand(model, Task(0, "first", (0, 1)))
    experts = experts_of(model)
    experts.open([0])
    with torch.no_grad():
        for name, parameter in experts.named_parameters():
            if name.endswith("up.weight"):
                parameter.normal_()
    ids = torch.tensor([[2, 6, 7, 3]])
    model.features({"input_ids": ids, "attention_mask": torch.ones_like(ids)}).sum().backward()
    assert all(p.grad is not None for p in experts.parameters())
