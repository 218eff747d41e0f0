"""Mistakes found in widely used implementations: one test an entry of the list, by its number.

1 Fisher from batch means. 2 importance pass in train mode. 3 LwF's teacher in train mode or fed
other inputs. 4 SI with an alias of the live weights. 5 a reservoir that favours some rows, loses
its count or its random numbers. 6 only rank 0's memory kept. 7 importances that are not saved. 8
optimizer and schedule saved, never loaded. 9 frozen parameters that weight decay moves. 10 moments
carried over a task's boundary, or lost on resume. 11 forward transfer of one model against itself.
12 the test split used for choosing. 13 accuracy with a task id passed off as without. 14 forgetting
a sample here, a task there.
"""

import json
from collections import Counter

import pytest
import torch
from torch import nn

from ratchet.pipelines.data.stream import load_stream
from ratchet.pipelines.evaluation.metrics import accuracy_matrix, forward_transfer, summarize
from ratchet.pipelines.methods.base import MemoryRow, MethodState
from ratchet.pipelines.methods.registry import make_method
from ratchet.pipelines.methods.selection import reservoir
from ratchet.pipelines.methods.si import Si
from ratchet.pipelines.spec.methods import METHOD_CONFIGS
from ratchet.pipelines.spec.update_spec import TrainingSpec
from ratchet.pipelines.training.checkpoint import read_checkpoint, under
from ratchet.pipelines.training.optim import StageOptimizer
from ratchet.pipelines.training.random_state import random_state, set_random_state
from tests.conformance.streams import (
    InterruptingCheckpoints,
    Interruption,
    plan_of,
    taught,
    teacher_of,
)
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, batch_of, context_of
from tests.tiny import teach, texts_of, tiny_spec

INPUTS = [1.0, 2.0, -1.0, 3.0]
TARGETS = [0, 1, 1, 0]
ANCHORED = [("ewc", {"labels": "observed"}), ("mas", {}), ("si", {})]
REMEMBERING = ["replay", "agem", "der"]


def method_of(kind, **settings):
    return make_method(METHOD_CONFIGS[kind].model_validate({"type": kind, **settings}))


def logistic():
    """Dropout and moving statistics under a head with fixed weights."""
    model = Logistic(1)
    model.heads.add(TASK)
    model.backbone = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(1))
    with torch.no_grad():
        model.heads.blocks["task_000"].weight.copy_(torch.tensor([[0.5], [-1.0]]))
    return model


def held(logits, num_rows):
    """What DER++ keeps beside its rows; the others pass over it."""
    return {
        "logits": torch.full((num_rows, 2), float(logits)),
        "num_logits": torch.full((num_rows,), 2),
    }


def learned(kind, model, sizes=(4,), **settings):
    """A method at the end of a task whose rows come in batches of these sizes."""
    batches, start = [], 0
    for size in sizes:
        rows = slice(start, start + size)
        batches.append(batch_of(INPUTS[rows], TARGETS[rows], first_row=start))
        start += size
    method, ctx = method_of(kind, **settings), context_of(model, batches, [TASK])
    method.begin_task(ctx)
    for batch in batches:
        one_step(method, ctx, batch)
    method.end_task(ctx)
    return method


def one_step(method, ctx, batch):
    """A step of gradient descent for what watches steps, without dropout."""
    rate = 0.1 if isinstance(method, Si) else 0.0
    mode = ctx.model.training
    ctx.model.eval()
    ctx.task_loss(batch, ctx.forward(batch)).backward()
    ctx.model.train(mode)
    method.watch_gradients(ctx, batch)
    with torch.no_grad():
        for parameter in ctx.model.trainable().values():
            if parameter.grad is not None:
                parameter.sub_(parameter.grad, alpha=rate)
    method.correct_weights(ctx)
    method.after_step(ctx, batch, None)
    ctx.model.zero_grad()


@pytest.mark.parametrize("kind", ["ewc", "mas"])
def test_01_importance_is_of_single_examples_whatever_the_size_of_the_batches(kind):
    settings = dict(ANCHORED)[kind]
    whole = learned(kind, logistic(), **settings).penalty.importance
    single = learned(kind, logistic(), sizes=(1, 1, 1, 1), **settings).penalty.importance
    for name, value in whole.items():
        torch.testing.assert_close(value, single[name])
    # What the mistake would give: the square of the mean gradient over the batch.
    model = logistic().eval()
    ctx = context_of(model, [], [TASK])
    batch = batch_of(INPUTS, TARGETS)
    ctx.task_loss(batch, ctx.forward(batch)).backward()
    weight = model.heads.blocks["task_000"].weight
    name = "heads.blocks.task_000.weight"
    assert float((whole[name] - weight.grad.square()).abs().max()) > 0.01


@pytest.mark.parametrize("kind", ["ewc", "mas"])
def test_02_the_importance_pass_is_in_eval_mode_and_moves_no_statistics(kind):
    model = logistic().train()
    buffers = {name: value.clone() for name, value in model.named_buffers()}
    numbers = torch.get_rng_state()
    settings = dict(ANCHORED)[kind]
    one, two = (learned(kind, model, **settings).penalty.importance for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)  # dropout would part them
    assert all(torch.equal(buffers[name], value) for name, value in model.named_buffers())
    assert torch.equal(torch.get_rng_state(), numbers)
    assert all(module.training for module in model.modules())


def test_03_the_teacher_of_lwf_does_not_drop_out_and_sees_what_the_student_sees():
    model = logistic()
    model.tokenizer, model._frozen_base = None, []
    lwf = method_of("lwf", strength=5.0)
    model.train()
    ctx = context_of(model, [], [NEXT], seen=[TASK])
    lwf.begin_task(ctx)
    model.heads.add(NEXT)
    batch = batch_of(INPUTS, [2, 3, 2, 3], [1] * 4)
    longer = batch.extended("replay", batch_of([9.0], [0]))
    model.eval()  # then the student is its teacher, on the same inputs
    assert lwf.loss(ctx, longer, ctx.forward(longer)).item() == pytest.approx(0.0, abs=1e-6)
    shifted = batch_of([value + 1 for value in INPUTS], [2, 3, 2, 3], [1] * 4)
    assert lwf.loss(ctx, batch, ctx.forward(shifted)).item() > 1e-3  # it can tell inputs apart


def test_04_si_keeps_copies_of_the_weights_and_so_finds_importances():
    si = learned("si", logistic(), strength=1.0)
    weight = si.penalty.importance["heads.blocks.task_000.weight"]
    assert float(weight.max()) > 0
    model = logistic()
    center = learned("si", model, strength=1.0).penalty.center["heads.blocks.task_000.weight"]
    before = center.clone()
    with torch.no_grad():
        model.heads.blocks["task_000"].weight.add_(1.0)
    assert torch.equal(center, before)


def test_05_the_last_row_offered_to_a_reservoir_is_as_likely_to_stay_as_the_first():
    numbers, trials = torch.Generator().manual_seed(0), 4000
    kept = Counter()
    for _ in range(trials):
        slots = reservoir(0, 4, 2, numbers).tolist()
        memory = {slot: row for row, slot in enumerate(slots) if slot >= 0}
        kept.update(memory.values())
    for row in range(4):  # drawn from [0, n - 1) the last would stay in 2/3 of the trials
        assert kept[row] / trials == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("kind", REMEMBERING)
def test_05_the_count_of_rows_seen_and_the_random_numbers_are_saved(kind):
    method = method_of(kind, capacity=5)
    rows = [MemoryRow(str(row), 0, 0) for row in range(5)]
    method.load_state_dict(MethodState(held(0, 5), {"num_seen": 100}, rows))
    other = method_of(kind, capacity=5)
    other.load_state_dict(method.state_dict())
    assert other.memory.num_seen == 100
    assert other.memory.rows == rows

    numbers = torch.Generator().manual_seed(7)
    torch.rand(3, generator=numbers)
    with torch.random.fork_rng():
        saved = random_state(numbers)
        wanted = torch.rand(4, generator=numbers), torch.rand(4)
        again = torch.Generator()
        set_random_state(saved, again)
        assert torch.equal(torch.rand(4, generator=again), wanted[0])
        assert torch.equal(torch.rand(4), wanted[1])


@pytest.mark.parametrize("kind", REMEMBERING)
def test_06_a_version_keeps_the_memory_of_every_worker(kind):
    states = []
    for rank in range(3):
        rows = [MemoryRow(f"{rank} {place}", 0, 0) for place in range(2 + rank)]
        method = method_of(kind)
        tensors = held(rank, len(rows))
        method.load_state_dict(MethodState(tensors, {"num_seen": 10 + rank}, rows))
        states.append(method.state_dict())
    merged = method_of(kind).merge_states(states)
    assert sorted(row.text for row in merged.rows) == sorted(
        row.text for state in states for row in state.rows
    )
    assert merged.values["num_seen"] == 33
    if kind == "der":
        ranks = [float(row.text[0]) for row in merged.rows]
        assert merged.tensors["logits"][:, 0].tolist() == ranks


@pytest.mark.parametrize(("kind", "settings"), ANCHORED, ids=lambda value: str(value))
def test_07_importances_and_anchors_are_in_the_state_that_is_saved(kind, settings):
    method = learned(kind, logistic(), strength=2.0, **settings)
    again = method_of(kind, strength=2.0, **settings)
    again.load_state_dict(method.state_dict())
    found = []
    for either in (method, again):
        model = logistic()
        with torch.no_grad():
            model.heads.blocks["task_000"].weight.add_(1.0)
        either.edit_gradients(context_of(model, [], [NEXT], seen=[TASK]), batch_of([1.0], [0]))
        found.append(model.heads.blocks["task_000"].weight.grad.clone())
    assert torch.equal(*found)
    assert float(found[0].abs().max()) > 0


def test_08_moments_and_schedule_that_were_saved_are_loaded():
    def steps(optimizer, weight, number):
        for _ in range(number):
            weight.grad = torch.tensor([[1.0, -3.0]]) * (1 + weight.detach())
            optimizer.clip()
            optimizer.step()
        return weight.detach().clone()

    def start(value):
        weight = nn.Parameter(value.clone())
        return StageOptimizer({"w": weight}, TrainingSpec(learning_rate=0.1), 10), weight

    optimizer, weight = start(torch.ones(1, 2))
    middle = steps(optimizer, weight, 3)
    state, position = optimizer.state_dict()
    state = {name: tensor.clone() for name, tensor in state.items()}
    undisturbed = steps(optimizer, weight, 3)
    restored, weight = start(middle)
    restored.load_state_dict(state, position)
    assert torch.equal(steps(restored, weight, 3), undisturbed)
    forgetful, weight = start(middle)
    assert not torch.equal(steps(forgetful, weight, 3), undisturbed)


def test_09_frozen_parameters_are_not_decayed(tiny_model, tmp_path):
    methods = [{"type": "freeze", "num_blocks": 1}, {"type": "ewc"}, {"type": "l2_sp"}]
    plan = plan_of(tiny_model, tmp_path, methods, training={"weight_decay": 0.5})
    teacher = teacher_of(plan)
    before = {name: p.detach().clone() for name, p in teacher.model.named_parameters()}
    teacher.run()
    moved = {
        name
        for name, parameter in teacher.model.backbone.named_parameters(prefix="backbone")
        if not torch.equal(parameter, before[name])
    }
    assert moved
    assert all(name.startswith("backbone.encoder.layer.1.") for name in moved)


def test_10_moments_begin_anew_with_a_task_and_are_carried_on_within_it(tiny_model, tmp_path):
    plan = plan_of(tiny_model, tmp_path, [], training={"checkpoint_every_steps": 1})
    for save, steps in ((1, 1), (3, 3), (5, 1), (6, 2)):  # four steps a task, a save after each
        folder = tmp_path / "checkpoints" / str(save)
        with pytest.raises(Interruption):
            taught(plan, store=InterruptingCheckpoints(folder, save))
        saved = read_checkpoint(InterruptingCheckpoints(folder, 0).latest(), 0)
        moments = under(saved.shared, "optimizer")
        counts = {float(value) for name, value in moments.items() if name.startswith("step/")}
        assert counts == {float(steps)}
        assert saved.state.schedule == steps


def test_11_forward_transfer_compares_with_the_untrained_start():
    matrix = [[0.9, 0.4], [0.8, 0.9]]
    assert forward_transfer(accuracy_matrix(matrix, [0.1, 0.15])) == pytest.approx(0.4 - 0.15)
    assert summarize(matrix)["forward_transfer"] is None  # not 0: the start was not measured


def test_12_one_file_for_choosing_and_reporting_is_found(tmp_path, tiny_model):
    spec = tiny_spec(tiny_model, tmp_path, "tiny", ("banking",), [])
    raw = spec.model_dump(mode="json")
    raw["tasks"][0]["test"] = raw["tasks"][0]["validation"]
    (warning,) = load_stream(spec.model_validate(raw)).warnings
    assert "12 of 12 test rows of task 'banking' also stand in validation" in warning


def test_13_accuracies_with_and_without_the_task_id_are_both_reported(tiny_model, tmp_path):
    spec = tiny_spec(tiny_model, tmp_path / "data", "tiny", ("banking", "home"), [])
    found = teach(tmp_path / "home", spec)
    without, given = found["metrics"], found["with_task_id"]["metrics"]
    assert without.keys() >= given.keys()
    assert given["average_accuracy"] > without["average_accuracy"]  # classes of other tasks confuse


def test_14_forgetting_is_a_mean_over_tasks_whatever_their_sizes(tiny_model, tmp_path):
    spec = tiny_spec(tiny_model, tmp_path / "data", "tiny", ("banking", "home", "kitchen"), [])
    path = tmp_path / "data" / "banking.test.jsonl"
    extra = [{"text": text, "label": "balance"} for text in texts_of("balance", 60, "more")]
    path.write_text(path.read_text() + "".join(json.dumps(row) + "\n" for row in extra))
    found = teach(tmp_path / "home", spec)
    matrix = found["accuracy_matrix"]
    lost = [max(matrix[i][j] for i in range(j, 2)) - matrix[2][j] for j in range(2)]
    assert found["metrics"]["forgetting"] == pytest.approx(sum(lost) / 2, abs=1e-5)
    rows = [72, 12]  # the test rows of each: a mean over samples is another number
    weighted = sum(loss * size for loss, size in zip(lost, rows, strict=True)) / sum(rows)
    assert abs(weighted - sum(lost) / 2) > 1e-3
