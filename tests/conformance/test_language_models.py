"""What the other conformance tests ask of classifiers, asked of a causal language model."""

import pytest
import torch

from tests.conformance.claims import claiming, row_of
from tests.conformance.groups import in_group
from tests.conformance.streams import (
    InterruptingCheckpoints,
    Interruption,
    differences,
    knowledge,
    language_stacks,
    name_of,
    plan_of,
    problems_of,
    taught,
    teacher_of,
)
from tests.conformance.test_kept_outputs import ISOLATING, after_each_stage
from tests.conformance.test_strength_zero import ZEROS
from tests.conformance.test_workers import learned, shared
from tests.tiny_lm import write_open_task, write_text_task

ZEROS_HERE = [zero for zero in ZEROS if not problems_of([zero], kind="causal_lm")]
ISOLATING_HERE = [m for m in ISOLATING if not problems_of([m], kind="causal_lm")]
VIVID = [
    [row_of(kind)] for kind in claiming(lambda c: "causal_lm" in c.kinds and not c.owns_structure)
]
BASES = [[], [{"type": "lora", "rank": 2}]]
LIMITS = {"max_new_tokens": 4, "max_generated_rows": 4}


def language_plan(model, folder, stack, **sections):
    """A closed task, then an open one, planned for a decoder."""
    tasks = ["banking", write_open_task(folder / "open", "first_word", 0)]
    sections = {"evaluation": LIMITS, **sections}
    return plan_of(model, folder, stack, tasks, kind="causal_lm", **sections)


@pytest.mark.parametrize("stack", language_stacks(), ids=name_of)
def test_going_on_from_a_checkpoint_equals_never_having_stopped(tiny_decoder, tmp_path, stack):
    plan = language_plan(tiny_decoder, tmp_path, stack, training={"checkpoint_every_steps": 1})
    undisturbed = knowledge(taught(plan))
    for place in (1, 6):
        folder = plan.job.folder / f"checkpoints_{place}"
        with pytest.raises(Interruption):
            taught(plan, store=InterruptingCheckpoints(folder, place))
        again = taught(plan, store=InterruptingCheckpoints(folder, -1))
        assert differences(undisturbed, knowledge(again)) == []


@pytest.fixture(scope="module")
def plain(tiny_decoder, tmp_path_factory):
    """The weights of plain fine-tuning and of a plain shared adapter."""
    folder = tmp_path_factory.mktemp("plain")
    return {
        name_of(base): taught(
            language_plan(tiny_decoder, folder / name_of(base), base)
        ).model.state_dict()
        for base in BASES
    }


@pytest.mark.parametrize(
    ("base", "zero"),
    [
        pytest.param(base, zero, id=name_of([*base, zero]))
        for base in BASES
        for zero in ZEROS_HERE
        if not problems_of([*base, zero], kind="causal_lm")  # those do not compose
    ],
)
def test_strength_zero_is_plain_fine_tuning(tiny_decoder, tmp_path, plain, base, zero):
    found = taught(language_plan(tiny_decoder, tmp_path, [*base, zero])).model.state_dict()
    wanted = plain[name_of(base)]
    assert found.keys() == wanted.keys()
    assert [name for name in wanted if not torch.equal(wanted[name], found[name])] == []


@pytest.mark.parametrize("stack", [*VIVID, [{"type": "l2_sp", "towards": "last"}]], ids=name_of)
def test_a_positive_strength_changes_the_weights(tiny_decoder, tmp_path, plain, stack):
    found = taught(language_plan(tiny_decoder, tmp_path, stack)).model.state_dict()
    assert any(not torch.equal(plain["finetune"][name], found[name]) for name in found)


@pytest.mark.parametrize("stack", language_stacks(), ids=name_of)
def test_two_workers_stay_equal(tiny_decoder, tmp_path, stack):
    plan = language_plan(tiny_decoder, tmp_path, stack)
    one, two = in_group(2, tmp_path / "found", learned, plan)
    assert differences(shared(one), shared(two)) == []


def scores_of(workers, model, folder):
    """What a group measures of a stream that is hardly learned."""
    tasks = ["banking", write_text_task(folder / "text", "lines")]
    training = {"learning_rate": 1e-9}
    plan = plan_of(model, folder / "plan", [], tasks, kind="causal_lm", training=training)
    return taught(plan, workers=workers).scores


def test_two_workers_measure_what_one_measures(tiny_decoder, tmp_path):
    (alone,) = in_group(1, tmp_path / "alone", scores_of, tiny_decoder, tmp_path / "first")
    for found in in_group(2, tmp_path / "found", scores_of, tiny_decoder, tmp_path / "second"):
        for row, other in zip(alone, found, strict=True):
            for task, scores in row.items():
                assert other[task] == pytest.approx(scores, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize("method", ISOLATING_HERE, ids=lambda method: name_of([method]))
def test_what_is_one_task_s_own_never_changes_again(tiny_decoder, tmp_path, method):
    plan = language_plan(tiny_decoder, tmp_path, [method])

    def logits_of_first(teacher, seen):
        teacher.stack.activate(teacher.model, 0)
        rows = teacher.data.held_out[0].rows
        was_training = teacher.model.training
        teacher.model.eval()
        with torch.no_grad():
            output = teacher.model(rows.batch(range(len(rows))).inputs)
        teacher.model.train(was_training)
        teacher.stack.activate(teacher.model, seen[-1].id)
        return output.logits.clone()

    first, later = after_each_stage(plan, logits_of_first)
    assert torch.equal(first, later)


def test_the_base_stays_what_it_was_under_an_adapter(tiny_decoder, tmp_path):
    plan = language_plan(tiny_decoder, tmp_path, [{"type": "lora", "rank": 2}])
    inputs = plan.data.held_out[0].rows.batch(range(4)).inputs
    before = teacher_of(plan).model.base_features(inputs)
    teacher = taught(plan)
    teacher.model.eval()
    assert torch.allclose(teacher.model.base_features(inputs), before, atol=1e-6)
