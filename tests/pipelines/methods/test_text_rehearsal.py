"""Covers, beside `text_rehearsal`: `generative`."""

from collections import Counter

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.data.segments import SEPARATOR, is_raw
from ratchet.pipelines.data.tokens import collate_rows, tokens_of
from ratchet.pipelines.methods.base import MemoryRow
from ratchet.pipelines.methods.text_rehearsal import ANSWER, TextRehearsal, language_form, parsed
from ratchet.pipelines.spec.methods.replay import GenerativeConfig
from ratchet.pipelines.types import Task
from tests.conformance.groups import in_group
from tests.conformance.streams import plan_of, taught, teacher_of
from tests.pipelines.methods.contexts import context_of
from tests.tiny import MARKERS
from tests.tiny_lm import trained_tokenizer, write_text_task

OLD, NEW = Task(0, "old", (3,), 0), Task(1, "new", (4,), 1)
END = "</s>"
LIMITS = {"max_new_tokens": 4, "max_generated_rows": 4}
TRAINING = {"num_epochs": 30, "learning_rate": 1e-2, "max_length": 40}


class Reader:
    """As much of a language model as making rows needs."""

    kind = "causal_lm"
    tokenizer = trained_tokenizer()


def context():
    ctx = context_of(Reader(), [], (NEW,), seen=(OLD,), texts=lambda rows: [TEXTS[r] for r in rows])
    ctx.tokenize = lambda texts: tokens_of(texts, Reader.tokenizer, 32, True)
    ctx.batch_of = lambda *rows: collate_rows(*rows, "cpu", True)
    return ctx


TEXTS = [f"please {word} ={SEPARATOR} now" for word in ("tell", "me", "the", "way")]


def new_rows(numbers):
    ctx = context()
    batch = ctx.batch_of(
        ctx.tokenize([TEXTS[n] for n in numbers]),
        torch.full((len(numbers),), 4),
        torch.ones(len(numbers), dtype=torch.int64),
    )
    batch.rows.copy_(torch.tensor(numbers))
    return batch


def with_examples(count, rate, **settings):
    """The method with examples of the old task, `rate` of them for a new row."""
    method = TextRehearsal(GenerativeConfig(**settings))
    state = method.state_dict()
    state.values |= {"rate": rate, "raw_tasks": {"0": False}}
    state.rows = [MemoryRow(f"is {n} ={SEPARATOR} any", 0, 3) for n in range(count)]
    method.load_state_dict(state)
    return method


def shown(batch, part):
    rows = batch.part(part).inputs
    return [
        (
            Reader.tokenizer.decode(ids[(mask - learned).bool()]).removeprefix("<s>"),
            Reader.tokenizer.decode(ids[learned.bool()]),
        )
        for ids, mask, learned in zip(*rows.values(), strict=True)
    ]


def test_each_row_is_also_learned_after_its_task_s_marker_with_the_weight():
    method = with_examples(5, 0.5, language_weight=0.3)
    batch = method.extend_batch(context(), new_rows([1, 3]))
    assert batch.parts == {
        "new": slice(0, 2),
        "generative": slice(2, 3),
        "language": slice(3, 6),
    }
    assert shown(batch, "generative") == [("is 0 =", f" any{END}")]
    assert shown(batch, "language") == [
        ("[new]", f"please me ={ANSWER} now{END}"),
        ("[new]", f"please way ={ANSWER} now{END}"),
        ("[old]", f"is 0 ={ANSWER} any{END}"),
    ]
    assert batch.weights.tolist() == pytest.approx([1, 1, 1, 0.3, 0.3, 0.3])
    assert batch.task_ids.tolist() == [1, 1, 0, 1, 1, 0]
    assert batch.targets.tolist() == [4, 4, 3, 4, 4, 3]


@pytest.mark.parametrize("size", [1, 3, 4])
def test_over_an_epoch_each_example_comes_once_evenly_spread(size):
    """Twelve new rows and nine examples: three quarters of one for each new row."""
    method, ctx, seen = with_examples(9, 0.75, language_weight=0.0), context(), Counter()
    numbers = [0, 1, 2, 3]
    for step in range(12 // size):
        batch = method.extend_batch(ctx, new_rows(numbers[:size]))
        if "generative" in batch.parts:
            seen.update(shown(batch, "generative"))
        done = (step + 1) * size * 0.75
        assert done - 1 < seen.total() <= done
    assert seen.total() == 9
    assert set(seen.values()) == {1}


def test_at_ratio_zero_no_row_is_added():
    method, batch = TextRehearsal(GenerativeConfig(ratio=0.0)), new_rows([0, 1])
    assert method.extend_batch(context(), batch) is batch


WORDS = st.text(st.characters(exclude_characters=SEPARATOR), min_size=1).filter(
    lambda text: text.strip() and "[" not in text
)


@given(st.lists(WORDS, min_size=2, max_size=6).filter(lambda found: len(found) % 2 == 0))
def test_what_is_learned_to_be_written_is_read_back_as_it_was(segments):
    text = SEPARATOR.join(segments)
    marker, body = language_form(OLD, text, END).split(SEPARATOR)
    assert marker == "[old]"
    assert parsed(body, raw=False) == text


@pytest.mark.parametrize(
    ("text", "raw", "row"),
    [
        (f"a{ANSWER}b", False, f"a{SEPARATOR}b"),
        ("a b", False, None),
        (f"a{ANSWER}b{ANSWER}c", False, None),
        (f"a{ANSWER} ", False, None),
        (f"{ANSWER}b", False, None),
        ("a b", True, "a b"),
        (" \n", True, None),
        (f"a{SEPARATOR}b", True, None),
        (f"a{SEPARATOR}b{ANSWER}c", False, None),
    ],
)
def test_what_cannot_be_taken_apart_is_dropped(text, raw, row):
    assert parsed(text, raw) == row


def test_the_end_of_a_text_inside_a_chat_does_not_end_what_is_written():
    chat = f"<|user|>hi{END}<|assistant|>{SEPARATOR}yes"
    assert END not in language_form(OLD, chat, END)


def between_tasks(model, folder, workers=None, seed=0, **settings):
    """A teacher after its first of two tasks, the method, and the context of the second task."""
    text = write_text_task(folder / "text", "lines", num_lines=30)
    method = {"type": "generative", "ratio": 1.0, "language_weight": 1.0, "top_k": 5, **settings}
    training = {**TRAINING, "seed": seed}
    tasks = ["banking", text]
    plan = plan_of(
        model, folder, [method], tasks, kind="causal_lm", training=training, evaluation=LIMITS
    )
    return first_taught(workers, plan)


def first_taught(workers, plan):
    teacher = teacher_of(plan, workers=workers)
    teacher._start_lineage(None)
    teacher._teach(0, plan.job.stages[0], None)
    teacher.generator.manual_seed(teacher.training.seed + 10 * teacher.workers.rank)
    return teacher, teacher.stack.methods["generative"].forms["causal_lm"], plan.job.stages[1]


@pytest.fixture(scope="module")
def half_taught(tiny_decoder, tmp_path_factory):
    return between_tasks(tiny_decoder, tmp_path_factory.mktemp("half"))


def written(half_taught, seed=0):
    teacher, method, stage = half_taught
    teacher.generator.manual_seed(seed)
    ctx = teacher._context(stage)
    method.begin_task(ctx)
    return list(method.examples)


def test_a_model_that_learned_to_writes_examples_of_the_old_task(half_taught):
    examples = written(half_taught)
    _, method, _ = half_taught
    assert method.raw_tasks == {0: False}
    assert len(examples) == method.num_written - method.num_dropped
    assert len(examples) >= 0.5 * method.num_written
    right = 0
    for row in examples:
        prompt, label = row.text.split(SEPARATOR)
        right += any(word in prompt for word in MARKERS.get(label.strip(), []))
    assert right >= 0.6 * len(examples)


def test_writing_leaves_the_numbers_and_the_mode_of_the_training_alone(half_taught):
    teacher, method, stage = half_taught
    teacher.model.train()
    torch.manual_seed(5)
    ctx = teacher._context(stage)
    before = torch.get_rng_state(), ctx.generator.get_state()
    method.begin_task(ctx)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(ctx.generator.get_state(), before[1])
    assert all(module.training for module in teacher.model.modules())


def test_the_seed_alone_decides_what_is_written(half_taught):
    first = written(half_taught)
    torch.manual_seed(99)
    assert written(half_taught) == first
    assert written(half_taught, seed=1) != first


@pytest.mark.parametrize("ratio", [0.2, 1.0])
def test_ratio_times_the_rows_of_the_new_task_are_written(half_taught, ratio):
    teacher, method, _ = half_taught
    config = method.config
    method.config = config.model_copy(update={"ratio": ratio})
    written(half_taught)
    method.config = config
    assert method.num_written == round(ratio * len(teacher.data.train[1]))


def test_blocks_of_raw_text_are_written_for_raw_text(tiny_decoder, tmp_path):
    tasks = [write_text_task(tmp_path / "text", name, 12) for name in ("lines", "more")]
    stack = [{"type": "generative", "ratio": 1.0}]
    plan = plan_of(tiny_decoder, tmp_path, stack, tasks, kind="causal_lm", evaluation=LIMITS)
    teacher, method, stage = first_taught(None, plan)
    method.begin_task(teacher._context(stage))
    assert method.raw_tasks == {0: True}
    assert method.num_dropped <= 0.2 * method.num_written
    assert all(is_raw(row.text) for row in method.examples)


def test_no_text_is_left_when_a_task_ends(tiny_decoder, tmp_path):
    stack = [{"type": "generative", "ratio": 1.0}]
    plan = plan_of(
        tiny_decoder, tmp_path, stack, ["banking", "home"], kind="causal_lm", evaluation=LIMITS
    )
    state = taught(plan).stack.state_dicts()["generative"]
    assert state.rows == []
    assert state.values["causal_lm"]["raw_tasks"] == {"0": False, "1": False}


def shares(workers, plan):
    teacher, method, stage = first_taught(workers, plan)
    method.begin_task(teacher._context(stage))
    return method.num_written, len(method.examples), method.num_dropped, method._rate


def test_two_workers_write_their_shares_of_different_examples(tiny_decoder, tmp_path):
    tasks = [write_text_task(tmp_path / "text", name, 12) for name in ("lines", "more")]
    stack = [{"type": "generative", "ratio": 1.0}]
    plan = plan_of(tiny_decoder, tmp_path, stack, tasks, kind="causal_lm", evaluation=LIMITS)
    one, two = in_group(2, tmp_path / "found", shares, plan)
    assert one[0] == two[0] == len(plan.data.train[1])
    assert one[1] + two[1] + one[2] == one[0]
    assert abs(one[1] - two[1]) <= 1 + one[2]
    assert one[2:] == two[2:]
