from collections import Counter

import pytest
import torch

from ratchet.pipelines.data.tokens import collate_rows, tokens_of
from ratchet.pipelines.errors import DataError, SpecError
from ratchet.pipelines.methods.base import MethodState
from ratchet.pipelines.methods.mixed_data import MixedData
from ratchet.pipelines.spec.methods.replay import MixedDataConfig
from ratchet.pipelines.spec.reading import parse_spec
from ratchet.pipelines.types import Task
from tests.conformance.streams import plan_of, taught
from tests.pipelines.methods.contexts import context_of
from tests.tiny_lm import trained_tokenizer, write_closed_task

TASK = Task(0, "first", (5,), 0)
LENGTH = 12


class Reader:
    """As much of a language model as reading needs."""

    kind = "causal_lm"
    tokenizer = trained_tokenizer()


def write_source(folder, name, num_words):
    path = folder / name
    words = ["please", "could", "you", "tell", "me"]
    path.write_text(" ".join(words[i % 5] for i in range(num_words)))
    return str(path)


def context():
    ctx = context_of(Reader(), [], (TASK,))
    ctx.max_length = LENGTH
    tokenizer = Reader.tokenizer
    ctx.tokenize = lambda texts: tokens_of(texts, tokenizer, LENGTH, True)
    ctx.batch_of = lambda *rows: collate_rows(*rows, "cpu", True)
    return ctx


def rows_of(ctx, count):
    tokens = ctx.tokenize(["please tell me\x1e now"] * count)
    return ctx.batch_of(tokens, torch.full((count,), 5), torch.zeros(count, dtype=torch.int64))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
@pytest.mark.parametrize("size", [1, 7, 16])
def test_general_text_makes_up_the_share_of_the_batches_over_time(tmp_path, share, size):
    method = MixedData(MixedDataConfig(sources=(write_source(tmp_path, "a.txt", 60),), share=share))
    ctx = context()
    method.begin_task(ctx)
    batch, total = rows_of(ctx, size), 0
    for _ in range(100):
        total += len(method.extend_batch(ctx, batch))
    assert (total - 100 * size) / total == pytest.approx(share, abs=0.01)


def test_mixed_rows_are_blocks_of_the_source_and_learned_throughout(tmp_path):
    path = write_source(tmp_path, "a.txt", 60)
    method = MixedData(MixedDataConfig(sources=(path,), share=0.5))
    ctx = context()
    mixed = method.extend_batch(ctx, rows_of(ctx, 4))
    assert mixed.parts == {"new": slice(0, 4), "mixed_data": slice(4, 8)}
    assert mixed.rows.tolist()[4:] == [-1] * 4
    assert mixed.weights.tolist() == [1.0] * 8
    text = (tmp_path / "a.txt").read_text()
    for ids, mask, learned in zip(*(t[4:] for t in mixed.inputs.values()), strict=True):
        assert torch.equal(mask, learned)
        assert int(mask.sum()) <= LENGTH
        assert Reader.tokenizer.decode(ids[mask.bool()][1:]) in text


@pytest.mark.parametrize(("temperature", "small"), [(1.0, 1 / 17), (2.0, 0.2), (1e9, 0.5)])
def test_sources_are_drawn_by_size_to_the_power_of_one_over_the_temperature(
    tmp_path, temperature, small
):
    sources = [write_source(tmp_path, "small.txt", 60), write_source(tmp_path, "large.txt", 1050)]
    config = MixedDataConfig(sources=tuple(sources), share=0.5, temperature=temperature)
    method = MixedData(config)
    ctx = context()
    method.begin_task(ctx)
    assert [len(source) for source in method._sources] == [6, 96]
    assert float(method._chances[0]) == pytest.approx(small, rel=0.05)
    places = {id(block): n for n, source in enumerate(method._sources) for block in source}
    drawn = Counter()
    ctx.batch_of = lambda blocks, *rest: (
        drawn.update(places[id(block)] for block in blocks),
        collate_rows(blocks, *rest, "cpu", True),
    )[1]
    batch = collate_rows(
        ctx.tokenize(["a"] * 100), torch.zeros(100).long(), torch.zeros(100).long(), "cpu", True
    )
    for _ in range(30):
        method.extend_batch(ctx, batch)
    assert drawn.total() == 3000
    assert drawn[0] / 3000 == pytest.approx(small, abs=0.03)


def test_the_part_of_a_row_owed_survives_saving(tmp_path):
    config = MixedDataConfig(sources=(write_source(tmp_path, "a.txt", 60),), share=0.2)
    ctx = context()
    method, again = MixedData(config), MixedData(config)
    method.begin_task(ctx)
    method.extend_batch(ctx, rows_of(ctx, 3))
    state = method.state_dict()
    assert state == MethodState(values={"owed": pytest.approx(0.75)})
    again.load_state_dict(state)
    assert len(again.extend_batch(ctx, rows_of(ctx, 1))) == 2


@pytest.mark.parametrize(
    ("name", "content"), [("gone.txt", None), ("empty.txt", ""), ("general.md", "some text")]
)
def test_a_source_without_text_is_named_before_anything_is_learned(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_text(content)
    method = MixedData(MixedDataConfig(sources=(str(path),)))
    with pytest.raises(DataError, match=name) as caught:
        method.begin_task(context())
    assert caught.value.problems[0].where == "methods.mixed_data.sources"


def raw_spec(folder, sources):
    task = write_closed_task(folder, "banking", ["balance", "transfer"])
    return {
        "lineage": "general",
        "model": {"name": "decoder", "kind": "causal_lm"},
        "tasks": [task],
        "methods": [{"type": "mixed_data", "sources": sources}],
    }


def test_sources_are_relative_to_the_spec_s_file(tmp_path):
    write_source(tmp_path, "a.txt", 60)
    spec = parse_spec(raw_spec(tmp_path, ["a.txt", "memory://b.txt"]), tmp_path)
    assert spec.methods[0].sources == (str(tmp_path / "a.txt"), "memory://b.txt")


@pytest.mark.parametrize(
    ("sources", "where", "message"),
    [
        (["gone.txt"], "methods.mixed_data.sources", "no such file or folder"),
        ([], "methods[0].sources", "name at least one"),
    ],
)
def test_a_spec_without_its_sources_is_refused(tmp_path, sources, where, message):
    with pytest.raises(SpecError) as caught:
        parse_spec(raw_spec(tmp_path, sources), tmp_path)
    (problem,) = caught.value.problems
    assert problem.where == where
    assert message in problem.message


def test_the_sources_are_learned_beside_the_task(tiny_decoder, tmp_path):
    path = tmp_path / "general.txt"
    path.write_text("quark lepton boson today . " * 40)
    found = []
    for share in (0.0, 0.5):
        stack = [{"type": "mixed_data", "sources": [str(path)], "share": share}]
        folder = tmp_path / str(share)
        plan = plan_of(tiny_decoder, folder, stack, ["banking"], kind="causal_lm")
        teacher = taught(plan)
        rows = collate_rows(
            tokens_of(["quark lepton boson today . quark"], teacher.model.tokenizer, 32, True),
            torch.zeros(1).long(),
            torch.zeros(1).long(),
            "cpu",
            True,
        )
        teacher.model.eval()
        with torch.no_grad():
            found.append(float(teacher.model.row_losses(teacher.model(rows.inputs), rows)))
    assert found[1] < found[0] - 0.1
