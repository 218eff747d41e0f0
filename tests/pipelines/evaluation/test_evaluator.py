import pytest
import torch

from ratchet.pipelines.types import route_tasks
from tests.conformance.streams import plan_of, teacher_of
from tests.tiny import TASKS

PER_TASK = [{"type": "lora", "rank": 2, "per_task": True}]
MORE = {"training": {"num_epochs": 6, "learning_rate": 3e-3}}
DOMAINS = {name: ["positive", "negative"] for name in ("films", "books")}


@pytest.fixture(scope="module")
def teach(tiny_model, tmp_path_factory):
    """Teach a stream once for all tests that ask for it."""
    known = {}

    def teach(name, methods, tasks=tuple(TASKS), **options):
        if name not in known:
            folder = tmp_path_factory.mktemp(name)
            known[name] = teacher_of(plan_of(tiny_model, folder, methods, tasks, **options, **MORE))
            known[name].run()
        return known[name]

    return teach


def logits_of(teacher, adapter_of, rows_of):
    """Logits of one task's held-out rows under the parameters of another, one row at a time."""
    teacher.stack.activate(teacher.model, adapter_of)
    teacher.model.eval()
    rows = teacher.data.held_out[rows_of].rows
    with torch.no_grad():
        found = [teacher.model(rows.batch([row]).inputs).logits[0] for row in range(len(rows))]
    return torch.stack(found)


def accuracy(answers, targets, split):
    return float((torch.tensor(answers)[split] == targets[split]).double().mean())


def best(logits, classes):
    return max(classes, key=lambda index: float(logits[index]))


def scores(teacher, measured=None):
    tasks = teacher.job.tasks
    return teacher.evaluator.evaluate(measured or tasks, tasks, teacher.router)


def test_with_and_without_the_task_id_are_the_best_of_own_and_of_all_classes(teach):
    teacher = teach("finetune", [])
    found = scores(teacher)
    for task in teacher.job.tasks:
        held = teacher.data.held_out[task.id]
        logits = logits_of(teacher, task.id, task.id)
        own = [best(row, task.class_ids) for row in logits]
        everything = [best(row, range(6)) for row in logits]
        targets = held.rows.targets
        assert found[task.id].validation_own == accuracy(own, targets, held.validation)
        assert found[task.id].test_own == accuracy(own, targets, held.test)
        assert found[task.id].validation_all == accuracy(everything, targets, held.validation)
        assert found[task.id].test_all == accuracy(everything, targets, held.test)
        assert found[task.id].num_validation == 12
    assert found[0].test_own > found[0].test_all  # forgetting: the two must not be mixed up


@pytest.mark.parametrize(("name", "methods"), [("finetune", []), ("own", PER_TASK)])
def test_the_validation_score_is_the_accuracy_over_own_labels_in_either_mode(teach, name, methods):
    teacher = teach(name, methods)
    found = scores(teacher)
    assert len({own.validation_own for own in found.values()}) > 1, "or any task would do"
    for is_training in (True, False):
        teacher.model.train(is_training)
        for task in teacher.job.tasks:
            score = teacher.evaluator.validation_score(task)
            assert score == found[task.id].validation_own
            assert teacher.model.training is is_training


def test_no_accuracy_without_the_task_id_where_the_scenario_gives_it(teach):
    teacher = teach("given", [], scenario="task_incremental")
    assert all(score.test_all is None for score in scores(teacher).values())
    assert all(score.validation_all is None for score in scores(teacher).values())


def routed_answers(teacher, task):
    """Brute force: every row routed by itself, then answered by the task that was chosen."""
    tasks = teacher.job.tasks
    router = teacher.router.fit(route_tasks(tasks))
    rows = teacher.data.held_out[task.id].rows
    logits = {other.id: logits_of(teacher, other.id, task.id) for other in tasks}
    answers = []
    for row in range(len(rows)):
        features = teacher.model.base_features(rows.batch([row]).inputs)
        route = int(router.scores(features).task_scores.argmax())
        index = best(logits[route][row], tasks[route].class_ids)
        answers.append(teacher.job.labels[index])
    return answers


@pytest.mark.parametrize(
    ("name", "tasks", "scenario"),
    [
        ("routed", tuple(TASKS), "class_incremental"),
        ("routed_domains", DOMAINS, "domain_incremental"),
    ],
)
def test_without_the_task_id_each_row_is_answered_by_the_task_it_is_routed_to(
    teach, name, tasks, scenario
):
    teacher = teach(name, PER_TASK, tasks, scenario=scenario)
    assert teacher.evaluator.routes
    found = scores(teacher)
    wrongly_routed = 0
    for task in teacher.job.tasks:
        held = teacher.data.held_out[task.id]
        wanted = [teacher.job.labels[target] for target in held.rows.targets.tolist()]
        given = routed_answers(teacher, task)
        right = [one == other for one, other in zip(given, wanted, strict=True)]
        assert found[task.id].validation_all == pytest.approx(
            sum(right[held.validation]) / 12, abs=1e-9
        )
        assert found[task.id].test_all == pytest.approx(sum(right[held.test]) / 12, abs=1e-9)
        wrongly_routed += len(right) - sum(right)
    assert wrongly_routed > 0  # else the oracle shows nothing about routing


def test_one_head_for_all_domains_is_measured_on_later_ones_and_before_any(teach):
    teacher = teach("domains", [], DOMAINS, scenario="domain_incremental")
    assert not teacher.evaluator.routes
    assert all(set(row) == {"films", "books"} for row in teacher.scores)
    assert set(teacher.baseline) == {"films", "books"}
    last = teacher.scores[-1]
    assert all(score["test_own"] == score["test_all"] for score in last.values())
    assert teacher.baseline != teacher.scores[0]  # forward transfer compares two sets of weights


def test_unchanged_tasks_are_not_evaluated_again_and_looking_again_says_the_same(
    tiny_model, tmp_path
):
    teacher = teacher_of(plan_of(tiny_model, tmp_path, PER_TASK, tuple(TASKS), **MORE))
    counts = []
    save = teacher._save
    teacher._save = lambda *args: (counts.append(teacher.evaluator.num_forwards), save(*args))
    teacher.run()
    # Each stage needs the new task's own features and its base features for the router, no others'.
    assert counts == [2, 4, 6]
    remembered = scores(teacher)
    assert teacher.evaluator.num_forwards == 6
    teacher.evaluator._features.clear()
    teacher.evaluator._base_features.clear()
    assert scores(teacher) == remembered
    assert teacher.evaluator.num_forwards == 12


def test_a_changed_backbone_is_looked_at_again(teach):
    teacher = teach("finetune", [])
    scores(teacher)
    before = teacher.evaluator.num_forwards
    scores(teacher)
    assert teacher.evaluator.num_forwards == before
    weight = next(teacher.model.backbone.parameters())
    with torch.no_grad():
        weight.add_(0.0)  # the same numbers
        scores(teacher)
        assert teacher.evaluator.num_forwards == before
        weight[0, 0] += 0.5
    scores(teacher)
    assert teacher.evaluator.num_forwards == before + 3
    with torch.no_grad():
        weight[0, 0] -= 0.5


def test_changed_heads_count_although_the_features_are_remembered(teach):
    teacher = teach("routed", PER_TASK)
    block = teacher.model.heads.blocks["task_001"]
    before = scores(teacher)
    count = teacher.evaluator.num_forwards
    with torch.no_grad():
        block.weight.neg_(), block.bias.neg_()
    after = scores(teacher)
    with torch.no_grad():
        block.weight.neg_(), block.bias.neg_()
    assert teacher.evaluator.num_forwards == count
    assert before[1].test_own > 0.6 > 0.4 > after[1].test_own
    assert before[0] == after[0]


def test_evaluation_leaves_the_mode_of_the_model(teach):
    teacher = teach("finetune", [])
    for mode in (True, False):
        teacher.model.train(mode)
        scores(teacher)
        assert teacher.model.training is mode


def test_validation_and_test_rows_are_told_apart(teach):
    teacher = teach("finetune", [])
    held = teacher.data.held_out[0]
    assert held.validation == slice(0, 12)
    assert held.test == slice(12, 24)
