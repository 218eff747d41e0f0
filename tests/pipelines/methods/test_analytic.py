import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext

import pytest
import torch
import transformers

from ratchet.pipelines.errors import MethodError
from ratchet.pipelines.methods.analytic import BUFFER_ROWS, VALIDATION_ROWS, Analytic
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.classifier import Classifier
from ratchet.pipelines.spec.methods.isolation import AnalyticConfig
from ratchet.pipelines.training.workers import SingleWorker
from ratchet.pipelines.types import Batch, Task

CLASSES, TASKS, SEQ, VOCABULARY = 8, 4, 6, 80
CONFIG = AnalyticConfig(width=96, ridge_grid=(1e-3, 1e-2, 1e-1, 1.0))
TRAIN_ROWS, VALIDATION_ROWS_EACH = 30, 10


def make_model():
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        max_position_embeddings=16,
    )
    backbone = transformers.BertModel(config, add_pooling_layer=False)
    return Classifier(backbone, None, "tiny", "tiny")


def make_rows(labels, rows_each, seed):
    """Token ids [rows, seq] and labels: most tokens of a text are its label's own."""
    generator = torch.Generator().manual_seed(seed)
    targets = torch.tensor(labels).repeat_interleave(rows_each)
    own = targets[:, None] * 5 + torch.randint(5, (len(targets), SEQ), generator=generator)
    other = torch.randint(40, VOCABULARY, (len(targets), SEQ), generator=generator)
    pick = torch.rand(len(targets), SEQ, generator=generator) < 0.8
    return torch.where(pick, own, other), targets


def batches_of(tokens, targets, size=7):
    for start in range(0, len(targets), size):
        part = slice(start, start + size)
        num_rows = len(targets[part])
        yield Batch(
            inputs={"input_ids": tokens[part], "attention_mask": torch.ones_like(tokens[part])},
            targets=targets[part],
            weights=torch.ones(num_rows),
            task_ids=torch.zeros(num_rows, dtype=torch.int64),
            rows=torch.arange(num_rows),
            parts={"new": slice(0, num_rows)},
        )


class Lineage:
    """One worker's model and method, taught the label pairs (0, 1), (2, 3), ... in some order."""

    def __init__(self, stages, config=CONFIG, workers=None, rows_each=TRAIN_ROWS):
        self.stages = stages
        self.rows_each = rows_each
        self.workers = workers or SingleWorker()
        self.model = make_model()
        self.method = Analytic(config)
        self.tasks = {}
        self.class_ids = torch.full((CLASSES,), -1)

    def rows(self, pair, rows_each, seed):
        tokens, labels = make_rows([2 * pair, 2 * pair + 1], rows_each, seed + pair)
        return tokens, self.class_ids[labels]

    def expand(self, stage):
        for pair in self.stages[stage]:
            task_id = len(self.tasks)
            self.class_ids[2 * pair : 2 * pair + 2] = torch.tensor([2 * task_id, 2 * task_id + 1])
            class_ids = (2 * task_id, 2 * task_id + 1)
            self.tasks[pair] = Task(task_id, f"pair {pair}", class_ids, stage)
            self.method.expand(self.model, self.tasks[pair])

    def context(self, stage):
        pairs = {task.id: pair for pair, task in self.tasks.items()}
        now = tuple(self.tasks[pair] for pair in self.stages[stage])
        return TaskContext(
            model=self.model,
            tasks=now,
            seen=tuple(task for task in self.tasks.values() if task.stage < stage),
            workers=self.workers,
            generator=torch.Generator(),
            batches=lambda: self.shard(stage),
            validation=lambda task_id: batches_of(
                *self.rows(pairs[task_id], VALIDATION_ROWS_EACH, 1000)
            ),
            texts=lambda _: [],
            tokenize=lambda _: [],
            batch_of=lambda *_: None,
            autocast=nullcontext,
        )

    def shard(self, stage):
        parts = [self.rows(pair, self.rows_each, 0) for pair in self.stages[stage]]
        tokens, targets = (torch.cat(columns) for columns in zip(*parts, strict=True))
        mine = slice(self.workers.rank, None, self.workers.world_size)
        return batches_of(tokens[mine], targets[mine])

    def learn(self, stage):
        """The pass over the stage's rows, without its end."""
        self.expand(stage)
        ctx = self.context(stage)
        self.method.begin_task(ctx)
        for batch in ctx.batches():
            with torch.no_grad():
                self.method.after_step(ctx, batch, self.model(batch.inputs))
        return ctx

    def teach(self, stages=None):
        for stage in range(len(self.stages)) if stages is None else stages:
            self.method.end_task(self.learn(stage))
        return self

    def weights(self):
        """Rows by label, not by class id, [labels, width]."""
        return self.model.heads.weight[self.class_ids]

    def accuracy(self, pair):
        tokens, targets = self.rows(pair, 25, 2000)
        batch = next(batches_of(tokens, targets, size=len(targets)))
        return float((self.model(batch.inputs).logits.argmax(dim=1) == targets).float().mean())

    def restored(self, stages_done, states):
        """A fresh process: structure replayed, then weights and method state."""
        other = Lineage(self.stages, self.method.config, self.workers)
        for stage in range(stages_done):
            other.expand(stage)
        other.model.load_learned_state(
            {name: tensor.clone() for name, tensor in self.model.learned_state().items()}
        )
        other.method.load_state_dict(states)
        return other


class ThreadWorkers:
    """Two workers as threads of one process: real sums over real tensors."""

    world_size = 2

    def __init__(self, rank, shelf, barrier):
        self.rank, self.shelf, self.barrier = rank, shelf, barrier

    def gather(self, value):
        self.shelf[self.rank] = value
        self.barrier.wait(timeout=60)
        values = [self.shelf[0], self.shelf[1]]
        self.barrier.wait(timeout=60)
        return values

    def sum(self, tensors):
        shares = self.gather([tensor.clone() for tensor in tensors])
        for i, tensor in enumerate(tensors):
            tensor.copy_(shares[0][i] + shares[1][i])


def pair_of_workers():
    shelf, barrier = [None, None], threading.Barrier(2)
    return [ThreadWorkers(rank, shelf, barrier) for rank in (0, 1)]


def assert_same_weights(left, right, tolerance=1e-5):
    assert left.abs().max() > 0
    assert (left - right).abs().max() <= tolerance * left.abs().max()


ONE_BY_ONE = [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    "stages", [[[3], [1], [0], [2]], [[0, 1, 2, 3]], [[2, 0], [3], [1]]], ids=str
)
def test_weights_do_not_depend_on_how_tasks_come(stages):
    expected, other = Lineage(ONE_BY_ONE).teach(), Lineage(stages).teach()
    assert expected.method.ridge == other.method.ridge
    assert_same_weights(expected.weights(), other.weights())


@pytest.mark.parametrize("rows_each", [20, BUFFER_ROWS // 4])
def test_weights_are_the_ridge_regression_over_all_rows(rows_each):
    lineage = Lineage([[0, 1], [2, 3]], rows_each=rows_each).teach()
    hidden, labels = [], []
    for stage in (0, 1):
        for batch in lineage.context(stage).batches():
            features = lineage.model.base_features(batch.inputs)
            hidden.append((features @ lineage.model.heads.projection).clamp(min=0).double())
            labels.append(torch.eye(CLASSES, dtype=torch.float64)[batch.targets])
    rows, labels = torch.cat(hidden), torch.cat(labels)
    assert len(rows) == CLASSES * rows_each
    gram = rows.T @ rows
    gram += lineage.method.ridge * gram.diagonal().mean() * torch.eye(len(gram))
    expected = torch.linalg.solve(gram, rows.T @ labels).T
    assert_same_weights(expected, lineage.model.heads.weight.double())


def test_old_tasks_are_known_after_new_ones_without_their_data():
    lineage = Lineage(ONE_BY_ONE).teach([0])
    assert lineage.accuracy(0) >= 0.9
    lineage.teach([1, 2, 3])
    assert min(lineage.accuracy(pair) for pair in range(TASKS)) >= 0.75


def test_only_the_head_differs_from_the_base():
    lineage = Lineage(ONE_BY_ONE)
    before = {name: p.clone() for name, p in lineage.model.backbone.named_parameters()}
    lineage.teach()
    assert list(lineage.model.learned_state()) == ["heads.weight"]
    assert lineage.model.trainable() == {}
    assert all(torch.equal(before[n], p) for n, p in lineage.model.backbone.named_parameters())


@pytest.mark.parametrize("stages_done", [1, 3])
def test_going_on_from_a_saved_version_equals_going_on(stages_done):
    lineage = Lineage(ONE_BY_ONE).teach(range(stages_done))
    other = lineage.restored(stages_done, lineage.method.state_dict())
    rest = range(stages_done, TASKS)
    lineage.teach(rest)
    other.teach(rest)
    assert torch.equal(lineage.weights(), other.weights())
    assert lineage.method.ridge == other.method.ridge


def test_a_saved_state_does_not_change_with_later_learning():
    lineage = Lineage(ONE_BY_ONE).teach([0])
    state = lineage.method.state_dict()
    before = {name: tensor.clone() for name, tensor in state.tensors.items()}
    lineage.restored(1, state).teach([1])
    lineage.teach([1])
    assert all(torch.equal(before[name], state.tensors[name]) for name in before)


def test_two_workers_end_with_the_weights_of_one():
    lineages = [Lineage(ONE_BY_ONE, workers=workers) for workers in pair_of_workers()]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Lineage.teach, lineages))
    expected = Lineage(ONE_BY_ONE).teach()
    assert torch.equal(lineages[0].weights(), lineages[1].weights())
    assert_same_weights(expected.weights(), lineages[0].weights())
    assert {lineage.method.ridge for lineage in lineages} == {expected.method.ridge}


def test_more_workers_than_ridges_agree_too():
    config = CONFIG.model_copy(update={"ridge_grid": (0.1,)})
    lineages = [Lineage([[0, 1]], config, workers) for workers in pair_of_workers()]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(Lineage.teach, lineages))
    expected = Lineage([[0, 1]], config).teach()
    for lineage in lineages:
        assert_same_weights(expected.weights()[:4], lineage.weights()[:4])


def test_a_stage_broken_off_by_two_workers_can_be_finished_by_one():
    """The shares of a stage under way, merged and handed out again, still sum to the whole."""
    pair = [Lineage(ONE_BY_ONE, workers=workers) for workers in pair_of_workers()]
    with ThreadPoolExecutor(2) as threads:
        list(threads.map(lambda lineage: lineage.teach([0]), pair))
    for lineage in pair:
        lineage.learn(1)
    states = [lineage.method.state_dict() for lineage in pair]
    merged = pair[0].method.merge_states(states)
    shards = [pair[0].method.shard_state(merged, rank, 3) for rank in range(3)]
    assert ["gram" in shard.tensors for shard in shards] == [True, False, False]
    alone = Lineage(ONE_BY_ONE)
    for stage in (0, 1):
        alone.expand(stage)
    alone.method.load_state_dict(shards[0])
    ctx = alone.context(1)
    alone.method.begin_task(ctx)
    alone.method.end_task(ctx)
    expected = Lineage(ONE_BY_ONE).teach([0, 1])
    assert_same_weights(expected.weights()[:4], alone.weights()[:4])


def test_whole_sums_are_not_added_when_states_are_merged():
    lineage = Lineage(ONE_BY_ONE).teach([0])
    state = lineage.method.state_dict()
    merged = lineage.method.merge_states([state, state])
    assert merged.tensors["num_rows"] == 2 * TRAIN_ROWS
    assert "gram" in lineage.method.shard_state(merged, 1, 2).tensors


def test_rows_wait_in_the_buffer_and_none_is_lost():
    lineage = Lineage([[0, 1, 2, 3]])
    assert TASKS * 2 * TRAIN_ROWS < BUFFER_ROWS
    lineage.learn(0)
    assert lineage.method.state_dict().tensors["num_rows"] == TASKS * 2 * TRAIN_ROWS


def test_the_ridge_is_the_best_on_validation_rows_of_all_tasks():
    lineage = Lineage(ONE_BY_ONE).teach()
    right = []
    for ridge in CONFIG.ridge_grid:
        single = CONFIG.model_copy(update={"ridge_grid": (ridge,)})
        other = Lineage(ONE_BY_ONE, single).teach()
        right.append(0)
        for pair in range(TASKS):
            for batch in batches_of(*other.rows(pair, VALIDATION_ROWS_EACH, 1000)):
                chosen = other.model(batch.inputs).logits.argmax(dim=1)
                right[-1] += int((chosen == batch.targets).sum())
    best = [r for r, n in zip(CONFIG.ridge_grid, right, strict=True) if n == max(right)]
    assert lineage.method.ridge == best[-1]


def test_validation_features_are_bounded():
    lineage = Lineage([[0]])
    tokens, _ = make_rows([0, 1], VALIDATION_ROWS, 5)
    ctx = lineage.learn(0)
    ctx.validation = lambda _: batches_of(tokens, torch.arange(len(tokens)) % 2, size=100)
    lineage.method.end_task(ctx)
    kept = lineage.method.state_dict().tensors["validation.000.features"]
    assert len(tokens) == 2 * VALIDATION_ROWS
    assert len(kept) == VALIDATION_ROWS


def test_without_validation_rows_only_a_single_ridge_will_do():
    lineage = Lineage([[0]])
    ctx = lineage.learn(0)
    ctx.validation = lambda _: iter(())
    with pytest.raises(MethodError, match="ridge_grid"):
        lineage.method.end_task(ctx)
    lineage = Lineage([[0]], CONFIG.model_copy(update={"ridge_grid": (0.1,)}))
    ctx = lineage.learn(0)
    ctx.validation = lambda _: iter(())
    lineage.method.end_task(ctx)
    assert lineage.accuracy(0) >= 0.9


@pytest.mark.parametrize(
    ("layers", "chosen"), [("spread", (0, 1, 2)), ("last", (2,)), ((1, 2), (1, 2))]
)
def test_the_chosen_layers_are_read(layers, chosen):
    lineage = Lineage([[0]], CONFIG.model_copy(update={"layers": layers})).teach()
    assert lineage.model.route_layers == chosen
    assert lineage.model.heads.projection.shape == (16 * len(chosen), 96)


@pytest.mark.parametrize("layers", [(), (3,), (-1, 2)])
def test_layers_that_the_model_does_not_have_are_refused(layers):
    lineage = Lineage([[0]], CONFIG.model_copy(update={"layers": layers}))
    with pytest.raises(MethodError, match=r"methods\.analytic\.layers.*0 \(embeddings\) to 2"):
        lineage.expand(0)
