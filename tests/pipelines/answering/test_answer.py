"""Covers, beside `answer`: `adapter_bank`, `frozen_base`, `golden`, `held_out`,
`served_version`.
"""

from dataclasses import replace

import pytest
import torch

from ratchet.pipelines.answering.answer import Query, answer, class_logits
from ratchet.pipelines.answering.frozen_base import BaseShelf
from ratchet.pipelines.answering.golden import check_golden
from ratchet.pipelines.answering.held_out import ask_rows, chosen_rule, served_rows
from ratchet.pipelines.answering.served_version import load_served_version
from ratchet.pipelines.evaluation.flips import unpack_right
from ratchet.pipelines.registry.answer_rule import AnswerRule
from ratchet.pipelines.version import load_version, read_held_out
from tests.tiny import MARKERS, TASKS, texts_of

EVERY = [
    ("columns", 1),
    ("columns", 2),
    ("shared_adapter", 1),
    ("growing", 1),
    ("growing", 2),
    ("cosine", 1),
    ("named", 1),
    ("analytic", 1),
    ("bottlenecks", 1),
    ("bottlenecks", 2),
    ("mixed", 1),
    ("prompted", 1),
    ("summed", 1),
    ("complement", 1),
    ("domains", 1),
    ("adapted_domains", 1),
]
CPU = torch.device("cpu")


def load(registry, lineage, number, shelf=None, by=None):
    """A version in memory; `by` overrides how it answers where no task is named."""
    shelf = shelf or BaseShelf(CPU)
    version = load_served_version(registry.path(lineage, number), shelf, precision="fp32")
    return version if by is None else replace(version, rule=AnswerRule(by))


def own_logits(registry, lineage, number, text, task_id):
    """What the model that was trained says, one text at a time."""
    loaded = load_version(registry.path(lineage, number))
    loaded.stack.activate(loaded.model, task_id)
    loaded.model.eval()
    inputs = loaded.model.tokenizer([text], return_tensors="pt", return_token_type_ids=False)
    with torch.no_grad():
        return loaded.model(inputs).logits[0]


def some_texts(num_each):
    return [text for label in MARKERS for text in texts_of(label, num_each, seed=7)]


def test_a_batch_that_mixes_everything_equals_each_model_alone(registry):
    shelf = BaseShelf(CPU)
    versions = {key: load(registry, *key, shelf) for key in EVERY}
    texts = some_texts(3)
    keys = [(key, task.id) for key, version in versions.items() for task in version.tasks]
    cases = [(*keys[i % len(keys)], texts[i % len(texts)]) for i in range(3 * len(keys))]
    mixed = class_logits([Query(text, versions[key], task_id) for key, task_id, text in cases])
    for (key, task_id, text), logits in zip(cases, mixed, strict=True):
        expected = versions[key].scaled(own_logits(registry, *key, text, task_id))
        torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("lineage", "number"), EVERY)
def test_a_named_task_is_answered_over_its_own_labels(registry, lineage, number):
    version = load(registry, lineage, number)
    task = version.tasks[-1]
    own = [version.manifest.labels[index] for index in task.class_ids]
    text = texts_of(own[0], 1)[0]
    found = answer([Query(text, version, task.id)])[0]
    logits = version.scaled(own_logits(registry, lineage, number, text, task.id))
    probs = logits[list(task.class_ids)].softmax(dim=0)
    assert found.label == own[int(probs.argmax())]
    assert found.probs == pytest.approx(probs.tolist(), abs=1e-5)
    assert sum(found.probs) == pytest.approx(1)
    assert (found.task, found.version) == (task.name, number)
    assert (found.score, found.margin, found.abstained) == (1.0, 1.0, False)


def scores_of(version, texts):
    """The router's scores by the model that was trained, one text at a time."""
    inputs = version.base.classifier.tokenizer(
        texts, return_tensors="pt", padding=True, return_token_type_ids=False
    )
    features = version.base.route_features(
        version.base.hidden_states(inputs), inputs["attention_mask"], version.model.route_layers
    )
    return version.router.scores(features)


@pytest.mark.parametrize(
    "lineage", ["columns", "adapted_domains", "domains", "named", "bottlenecks", "mixed"]
)
def test_auto_goes_to_the_task_that_the_router_names(registry, lineage):
    version = load(registry, lineage, registry.champion(lineage), by="routed")
    texts = some_texts(2)
    with torch.no_grad():
        scores = scores_of(version, texts)
    found = answer([Query(text, version, None) for text in texts])
    chosen = scores.task_scores.argmax(dim=1).tolist()
    assert len(set(chosen)) > 1
    for place, answered in enumerate(found):
        assert answered.score == pytest.approx(float(scores.task_scores[place].exp().max()), 1e-4)
        rejected = float(scores.in_scope[place]) < version.threshold
        assert answered.abstained == rejected
        assert answered.task == (None if rejected else version.tasks[chosen[place]].name)
        if not rejected:
            own = version.manifest.labels
            names = [own[index] for index in version.tasks[chosen[place]].class_ids]
            assert answered.label in names
            assert len(answered.probs) == len(version.manifest.label_names)
            mine = [version.manifest.label_names.index(name) for name in names]
            assert sum(answered.probs[place] for place in mine) == pytest.approx(1)


@pytest.mark.parametrize("lineage", ["growing", "analytic", "cosine", "shared_adapter", "summed"])
def test_auto_over_one_head_takes_the_best_of_all_labels(registry, lineage):
    number = registry.champion(lineage)
    version = load(registry, lineage, number, by="heads")
    texts = [text for labels in TASKS.values() for label in labels for text in texts_of(label, 2)]
    known = len(version.manifest.labels)
    answered = [
        (text, found)
        for text, found in zip(texts, answer([Query(t, version, None) for t in texts]), strict=True)
        if not found.abstained
    ]
    assert len(answered) >= 4
    for text, found in answered:
        probs = version.scaled(own_logits(registry, lineage, number, text, 0)).softmax(dim=0)
        best = probs.topk(2)
        assert found.label == version.manifest.labels[int(best.indices[0])]
        assert found.label in TASKS[found.task]
        assert found.probs == pytest.approx(probs.tolist(), abs=1e-5)
        assert len(found.probs) == known
        by_task = [float(probs[list(task.class_ids)].sum()) for task in version.tasks]
        own = by_task.pop(version.task_id(found.task))
        assert found.score == pytest.approx(own, abs=1e-5)
        assert found.margin == pytest.approx(own - max(by_task), abs=1e-5)


@pytest.mark.parametrize("lineage", ["growing", "analytic", "columns", "bottlenecks", "domains"])
def test_prototypes_answer_with_the_nearest_class_of_the_router(registry, lineage):
    version = load(registry, lineage, registry.champion(lineage), by="prototypes")
    texts = some_texts(2)
    with torch.no_grad():
        nearest = scores_of(version, texts).class_distances.argmin(dim=1).tolist()
    pairs = [(task.name, index) for task in version.tasks for index in task.class_ids]
    answered = 0
    for found, pair in zip(answer([Query(t, version, None) for t in texts]), nearest, strict=True):
        if found.abstained:
            continue
        answered += 1
        if lineage != "domains":  # there labels of several tasks add up
            assert found.task == pairs[pair][0]
            assert found.label == version.manifest.labels[pairs[pair][1]]
        assert sum(found.probs) == pytest.approx(1)
    assert answered


@pytest.mark.parametrize("lineage", ["growing", "shared_adapter", "cosine"])
def test_a_mixture_multiplies_what_heads_and_router_say(registry, lineage):
    version = load(registry, lineage, registry.champion(lineage))
    rule = AnswerRule("mixture", own=0.7, tasks=1.3, classes=0.4, heads=0.2)
    version = replace(version, rule=rule)
    texts = some_texts(2)
    with torch.no_grad():
        scores = scores_of(version, texts)
    for place, found in enumerate(answer([Query(t, version, None) for t in texts])):
        if found.abstained:
            continue
        logits = version.scaled(own_logits(registry, lineage, version.number, texts[place], 0))
        own = torch.cat([logits[list(t.class_ids)].log_softmax(0) for t in version.tasks])
        tasks = torch.cat(
            [scores.task_scores[place, t.id].expand(len(t.class_ids)) for t in version.tasks]
        )
        classes = (-scores.class_distances[place] / 48.0).log_softmax(0)
        mixed = 0.7 * own + 1.3 * tasks + 0.4 * classes + 0.2 * logits.log_softmax(0)
        assert found.probs == pytest.approx(mixed.softmax(0).tolist(), abs=1e-4)


def test_the_second_task_is_asked_where_the_first_does_not_lead_by_far(registry):
    version = load(registry, "columns", 2)
    rule = AnswerRule("mixture", own=1.0, tasks=0.0, classes=0.0, heads=0.0)
    version = replace(version, rule=rule)
    texts = some_texts(4)
    with torch.no_grad():
        margins = scores_of(version, texts).margin.tolist()
    asked = [
        sum(p > 0 for p in found.probs)
        for found in answer([Query(text, version, None) for text in texts])
    ]
    two, one = (
        [a for a, m in zip(asked, margins, strict=True) if a and m < 0.9],
        [a for a, m in zip(asked, margins, strict=True) if a and m >= 0.9],
    )
    assert two
    assert set(two) == {4}
    assert set(one) <= {2}


def test_a_label_of_several_tasks_is_answered_once(registry):
    version = load(registry, "adapted_domains", registry.champion("adapted_domains"), by="mixture")
    assert len(version.choices.names) < len(version.choices.labels)
    for found in answer([Query(text, version, None) for text in some_texts(2)]):
        if not found.abstained:
            assert len(found.probs) == len(version.choices.names)
            assert sum(found.probs) == pytest.approx(1)


@pytest.mark.parametrize(("lineage", "number"), EVERY)
def test_held_out_rows_are_answered_as_requests_are(registry, lineage, number):
    version = load(registry, lineage, number)
    folder = registry.path(lineage, number)
    texts = {task.id: read_held_out(folder, task.id) for task in version.tasks}
    asked = ask_rows(version, texts)
    rule = chosen_rule(version, asked, "auto")
    best = max(rule.accuracy.values())
    assert rule.accuracy[rule.by] == best
    assert ("heads" in rule.accuracy) == (not version.has_task_features)
    version = replace(version, rule=rule)
    for task in version.tasks:
        held = texts[task.id]
        found = served_rows(version, task.id, asked[task.id], rule, slice(0, len(held.validation)))
        auto = answer([Query(text, version, None) for text in held.validation])
        named = answer([Query(text, version, task.id) for text in held.validation])
        right = [a.label == want for a, want in zip(auto, held.validation_labels, strict=True)]
        own = [a.label == want for a, want in zip(named, held.validation_labels, strict=True)]
        assert unpack_right(found.served.right).tolist() == right
        assert unpack_right(found.served.rejected).tolist() == [a.abstained for a in auto]
        assert found.own.tolist() == own


def test_rejected_text_has_no_label_and_no_task(registry):
    version = load(registry, "columns", 2)
    version.manifest.routing["threshold"] = float("inf")
    found = answer([Query("please tell me about money", version, None)])[0]
    assert (found.abstained, found.label, found.task, found.probs) == (True, None, None, [])
    assert 0 <= found.score <= 1


def test_a_named_task_is_never_rejected(registry):
    version = load(registry, "columns", 2)
    version.manifest.routing["threshold"] = float("inf")
    assert not answer([Query("quark lepton", version, 0)])[0].abstained


def test_adapters_that_did_not_change_are_held_once(registry):
    shelf = BaseShelf(CPU)
    first, second = (load(registry, "columns", number, shelf) for number in (1, 2))
    assert [second.slots[task_id] for task_id in (0, 1)] == list(first.slots.values())
    assert first.base.bank.num_used == 3
    first.close()
    assert second.base.bank.num_used == 3
    second.close()
    assert second.base.bank.num_used == 0


def test_texts_are_cut_where_training_cut_them(registry):
    version = load(registry, "columns", 2)
    long = "money " * 200
    found = answer([Query(long, version, 0)])[0]
    assert found.num_tokens == 24


@pytest.mark.parametrize("lineage", ["bottlenecks", "mixed", "prompted"])
def test_each_task_of_a_batch_is_answered_by_its_own_part(registry, lineage):
    version = load(registry, lineage, registry.champion(lineage))
    assert version.model.has_task_adapters
    assert not version.slots
    text = "please tell me about my money"
    order = [task.id for task in version.tasks] * 2
    found = class_logits([Query(text, version, task_id) for task_id in order])
    alone = [class_logits([Query(text, version, task_id)])[0] for task_id in order]
    for mixed, single in zip(found, alone, strict=True):
        torch.testing.assert_close(mixed, single, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(found[0], found[1], atol=1e-3)


def test_parts_of_old_tasks_answer_in_a_later_version_as_before(registry):
    first, second = (load(registry, "bottlenecks", number) for number in (1, 2))
    texts = some_texts(1)
    for task in first.tasks:
        ids = list(task.class_ids)
        before = class_logits([Query(text, first, task.id) for text in texts])
        after = class_logits([Query(text, second, task.id) for text in texts])
        for one, other in zip(before, after, strict=True):
            assert torch.equal(one[ids], other[ids])


@pytest.mark.parametrize("lineage", ["bottlenecks", "mixed", "prompted", "summed", "complement"])
def test_versions_with_parts_of_their_own_pass_the_check_before_going_live(registry, lineage):
    number = registry.champion(lineage)
    check_golden(load(registry, lineage, number), registry.path(lineage, number))
