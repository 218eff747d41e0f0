"""Covers, beside `der`: `answer_memory`."""

from collections import Counter

import pytest
import torch

from ratchet.pipelines.methods.answer_memory import AnswerMemory, side_by_side, taken_apart
from ratchet.pipelines.methods.base import MemoryRow, MethodState
from ratchet.pipelines.methods.der import Der, distance
from ratchet.pipelines.spec.methods.replay import DerConfig
from ratchet.pipelines.types import Output
from tests.pipelines.methods.contexts import NEXT, TASK, Logistic, RankOf, batch_of, context_of


def linear(*blocks, layout="growing", tasks=(TASK, NEXT)):
    """Heads without biases over one number a row: f_k(x) = w_k x."""
    model = Logistic(1, layout).eval()
    for task, weights in zip(tasks, blocks, strict=False):
        model.heads.add(task)
        block = model.heads.blocks[model.heads.block_name(task.id)]
        with torch.no_grad():
            block.weight.copy_(torch.tensor(weights)[:, None])
    return model


def learn(der, ctx, batch):
    """One step as the loop makes it, without the optimizer."""
    longer = der.extend_batch(ctx, batch)
    output = ctx.forward(longer)
    loss = der.loss(ctx, longer, output)
    der.after_step(ctx, longer, output.detached())
    ctx.step += 1
    return longer, output, loss


def remembering(answers, **settings):
    """A memory whose row i is the text i of class i % 2 with these logits."""
    der = Der(DerConfig(**settings))
    logits, counts = side_by_side([torch.tensor(answer) for answer in answers])
    rows = [MemoryRow(str(place), 0, place % 2) for place in range(len(answers))]
    tensors = {"logits": logits, "num_logits": counts}
    der.load_state_dict(MethodState(tensors, {"num_seen": len(answers)}, rows))
    return der


@pytest.mark.parametrize(
    ("layout", "answers", "expected"),
    [
        # logits are w x with w = (1, 2 | 3, 4) and x the row's text, 0 or 1.
        ("growing", [[1.0, 3.0]], (1 + 9) / 2),
        ("growing", [[1.0, 3.0, 0.0, 2.0]], (1 + 9 + 0 + 4) / 4),
        ("growing", [[0.0, 0.0], [1.0, 1.0]], (0 + (0 + 1) / 2) / 2),
        ("growing", [[2.0, 0.0], [1.0, 2.0, 3.0, 0.0]], ((4 + 0) / 2 + 16 / 4) / 2),
        ("per_task", [[2.0, 0.0], [1.0, 2.0, 9.0, 9.0]], ((4 + 0) / 2 + 0) / 2),
    ],
    ids=str,
)
def test_answers_are_compared_over_the_classes_known_when_the_row_was_seen(
    layout, answers, expected
):
    model = linear((1.0, 2.0), (3.0, 4.0), layout=layout)
    ctx = context_of(model, [], [NEXT], seen=[TASK])
    der = remembering(answers, alpha=0.5, beta=0.0, rows_per_step=len(answers))
    longer = der.extend_batch(ctx, batch_of([5.0], [2], [1]))
    assert longer.parts == {"new": slice(0, 1), "der_answers": slice(1, 1 + len(answers))}
    loss = der.loss(ctx, longer, ctx.forward(longer))
    assert loss.item() == pytest.approx(0.5 * expected)


@pytest.mark.parametrize(("layout", "others"), [("growing", [3.0, 4.0]), ("per_task", [])])
def test_labels_are_rehearsed_among_the_classes_that_compete(layout, others):
    model = linear((1.0, 2.0), (3.0, 4.0), layout=layout)
    ctx = context_of(model, [], [NEXT], seen=[TASK])
    der = remembering([[0.0, 0.0], [0.0, 0.0]], alpha=0.0, beta=2.0, rows_per_step=2)
    longer = der.extend_batch(ctx, batch_of([5.0], [2], [1]))
    assert list(longer.parts) == ["new", "der_labels"]
    loss = der.loss(ctx, longer, ctx.forward(longer))
    # x = 0 is of class 0 with all logits 0; x = 1 is of class 1 with the logits w.
    scores = torch.tensor([1.0, 2.0, *others])
    first, second = torch.log(torch.tensor(float(len(scores)))), scores.logsumexp(0) - 2.0
    assert loss.item() == pytest.approx(2.0 * float(first + second) / 2)


def test_the_two_draws_are_independent_and_weigh_nothing_in_the_task_loss():
    der = remembering([[0.0, 0.0]] * 40, rows_per_step=10)
    ctx = context_of(linear((1.0, 2.0), (3.0, 4.0)), [], [NEXT], seen=[TASK])
    batch = batch_of([5.0, 1.0], [2, 3], [1, 1])
    longer = der.extend_batch(ctx, batch)
    assert len(longer) == 22
    assert longer.weights.tolist() == [1.0] * 2 + [0.0] * 20
    drawn = [
        longer.inputs["input_ids"][longer.parts[name], 0].tolist()
        for name in ("der_answers", "der_labels")
    ]
    assert drawn[0] != drawn[1]
    assert all(len(set(draw)) == 10 for draw in drawn)
    whole = ctx.task_loss(longer, ctx.forward(longer))
    torch.testing.assert_close(whole, ctx.task_loss(batch, ctx.forward(batch)))


def test_rows_are_remembered_with_the_logits_that_the_step_saw():
    model, der = linear((1.0, 2.0)), Der(DerConfig(capacity=8, rows_per_step=2))
    ctx = context_of(model, [], [TASK])
    learn(der, ctx, batch_of([5.0, 7.0], [0, 1], first_row=3))
    assert der.memory.rows == [MemoryRow("3", 0, 0), MemoryRow("4", 0, 1)]
    with torch.no_grad():
        model.heads.blocks["task_000"].weight.zero_()
    found = torch.stack(der.memory.answers)
    torch.testing.assert_close(found, torch.tensor([[5.0, 10.0], [7.0, 14.0]]))
    assert not found.requires_grad
    model.heads.add(NEXT)
    ctx = context_of(model, [], [NEXT], seen=[TASK])
    learn(der, ctx, batch_of([1.0], [2], [1], first_row=9))
    assert [len(answer) for answer in der.memory.answers] == [2, 2, 4]


def test_all_logits_are_remembered_where_the_loss_closes_some():
    model = linear((1.0, 2.0), (3.0, 4.0), layout="per_task")
    der = Der(DerConfig(capacity=8))
    learn(der, context_of(model, [], [NEXT], seen=[TASK]), batch_of([2.0], [2], [1]))
    torch.testing.assert_close(der.memory.answers[0], torch.tensor([2.0, 4.0, 6.0, 8.0]))


def test_the_parts_of_an_accumulated_step_are_all_remembered():
    der, ctx = Der(DerConfig(capacity=8)), context_of(linear((1.0, 2.0)), [], [TASK])
    for first in (0, 2):
        batch = batch_of([1.0, 2.0], [0, 1], first_row=first)
        output = ctx.forward(batch)
        der.loss(ctx, der.extend_batch(ctx, batch), output)
    der.after_step(ctx, batch, output)
    assert [row.text for row in der.memory.rows] == ["0", "1", "2", "3"]


def test_every_row_offered_is_kept_as_often_as_vitter_says():
    """Row n of N is in a memory of C with probability C / N, whichever n it is."""
    capacity, num_rows, trials = 8, 40, 600
    kept = Counter()
    numbers = torch.Generator().manual_seed(0)
    for _ in range(trials):
        memory = AnswerMemory(capacity)
        ctx = context_of(linear((1.0, 2.0)), [], [TASK])
        ctx.generator = numbers
        for first in range(0, num_rows, 5):
            batch = batch_of([1.0] * 5, [0] * 5, first_row=first)
            memory.watch(ctx, batch, batch.rows[:, None].float())
        assert len(memory) == len(memory.answers) == capacity
        for row, answer in zip(memory.rows, memory.answers, strict=True):
            assert float(row.text) == answer.item()  # rows and logits stay together
        kept.update(int(row.text) for row in memory.rows)
    expected = trials * capacity / num_rows
    deviation = (expected * (1 - capacity / num_rows)) ** 0.5
    assert all(abs(kept[row] - expected) < 4.5 * deviation for row in range(num_rows))
    early, late = (sum(kept[row] for row in part) for part in (range(20), range(20, 40)))
    assert abs(early - late) < 4.5 * (2 * 20) ** 0.5 * deviation


@pytest.mark.parametrize("place", [0, 2, 5])
def test_rows_logits_count_and_random_numbers_survive_a_restart(place):
    def stage(restarts):
        der = Der(DerConfig(capacity=5, rows_per_step=2))
        ctx = context_of(linear((1.0, 2.0)), [], [TASK])
        for step in range(7):
            learn(der, ctx, batch_of([1.0, 2.0, 3.0], [0, 1, 0], first_row=3 * step))
            if restarts and step == place:
                saved = der.state_dict()
                der = Der(DerConfig(capacity=5, rows_per_step=2))
                der.load_state_dict(saved)
        return der.state_dict()

    one, other = stage(False), stage(True)
    assert one.rows == other.rows
    assert one.values == other.values == {"num_seen": 21}
    assert one.tensors.keys() == other.tensors.keys()
    assert all(torch.equal(one.tensors[name], other.tensors[name]) for name in one.tensors)


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (3, 2)])
def test_merged_and_sharded_again_rows_keep_their_logits(before, after):
    states = []
    for rank in range(before):
        der = Der(DerConfig(capacity=12))
        numbers = range(rank, 9, before)
        rows = [MemoryRow(str(number), 0, 0) for number in numbers]
        answers = [torch.full((1 + number % 3,), float(number)) for number in numbers]
        der.memory.recall(rows, len(rows) + 2, answers)
        states.append(der.state_dict())
    merged = Der(DerConfig()).merge_states(states)
    found = []
    for rank in range(after):
        der = Der(DerConfig(capacity=12))
        der.load_state_dict(der.shard_state(merged, rank, after))
        found += zip(der.memory.rows, der.memory.answers, strict=True)
    assert sorted(row.text for row, _ in found) == [str(number) for number in range(9)]
    for row, answer in found:
        number = int(row.text)
        assert answer.tolist() == [float(number)] * (1 + number % 3)


def test_a_memory_cut_to_a_workers_share_keeps_rows_and_logits_together():
    der = remembering([[float(place)] for place in range(9)], capacity=9)
    der.take_share(context_of(linear((1.0, 2.0)), [], [TASK], workers=RankOf(1, 2)))
    assert len(der.memory) == len(der.memory.answers) == 4
    found = zip(der.memory.rows, der.memory.answers, strict=True)
    assert all(float(row.text) == answer.item() for row, answer in found)


@pytest.mark.parametrize("settings", [{"capacity": 0}, {"alpha": 0.0, "beta": 0.0}])
def test_nothing_is_drawn_at_zero(settings):
    der, ctx = Der(DerConfig(**settings)), context_of(linear((1.0, 2.0)), [], [TASK])
    numbers = ctx.generator.get_state()
    for _ in range(3):
        batch = batch_of([1.0], [0])
        longer, _, loss = learn(der, ctx, batch)
        assert longer is batch
        assert loss is None
    untouched = torch.equal(ctx.generator.get_state(), numbers)
    assert untouched == (der.config.capacity == 0)


def test_logits_of_different_numbers_of_classes_lie_side_by_side_and_come_back():
    answers = [torch.tensor([1.0, 2.0]), torch.tensor([3.0]), torch.tensor([4.0, 5.0, 6.0])]
    logits, counts = side_by_side(answers)
    assert logits.tolist() == [[1.0, 2.0, 0.0], [3.0, 0.0, 0.0], [4.0, 5.0, 6.0]]
    assert counts.tolist() == [2, 1, 3]
    back = taken_apart(logits, counts)
    assert all(torch.equal(one, other) for one, other in zip(answers, back, strict=True))


def test_the_distance_has_the_gradient_of_the_mean_square():
    logits = torch.tensor([[1.0, 2.0, 3.0]], requires_grad=True)
    distance(Output(logits, torch.zeros(1, 1)), [torch.tensor([0.0, 0.0])]).backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[1.0, 2.0, 0.0]]))
