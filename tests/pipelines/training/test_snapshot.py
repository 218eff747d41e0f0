import torch

from ratchet.pipelines.methods.ewc import Ewc
from ratchet.pipelines.methods.replay import Replay
from ratchet.pipelines.training.snapshot import Snapshot
from tests.conformance.streams import differences, knowledge, plan_of, taught

STACK = [
    {"type": "lora", "rank": 2},
    {"type": "replay", "capacity": 10},
    {"type": "ewc", "strength": 10.0},
]


def about(teacher):
    """What is no part of a version, and still decides what the next training does."""
    model = teacher.model
    return {
        "trains": [p.requires_grad for p in model.parameters()],
        "modes": [module.training for module in model.modules()],
        "gradients": [p.grad for p in model.parameters()],
        "next": (torch.get_rng_state().tolist(), teacher.generator.get_state().tolist()),
    }


def test_whatever_was_changed_is_put_back_more_than_once(tiny_model, tmp_path):
    teacher = taught(plan_of(tiny_model, tmp_path, STACK))
    model = teacher.model
    model.eval()
    model.heads.train()  # modes may be mixed
    known, state = knowledge(teacher), about(teacher)
    replay, ewc = teacher.stack.methods["replay"], teacher.stack.methods["ewc"]
    assert isinstance(replay, Replay)
    assert isinstance(ewc, Ewc)
    snapshot = Snapshot(model, teacher.stack, teacher.generator)
    for seed in (1, 2):
        torch.manual_seed(seed)
        teacher.generator.manual_seed(seed)
        model.train(seed == 1)
        for parameter in model.parameters():
            if not parameter.requires_grad:
                continue
            parameter.grad = torch.ones_like(parameter)
            parameter.data.fill_(float("nan"))
            parameter.requires_grad_(False)
        replay.memory.rows.clear()
        ewc.penalty.importance.clear()
        snapshot.restore()
        assert differences(known, knowledge(teacher)) == []
        assert about(teacher) == state
