"""A training step of ours beside a bare PyTorch loop over the same tensors.

    python -m tests.benchmarks.training_step [--methods plain ewc replay] [--precisions fp32 bf16]
        [--lengths 64 12] [--threads 1] [--repeats 15]

MiniLM with all of its weights training, the second of two tasks of 10 classes, 32 rows a step.
Ours is `StageLoop.step` with the context and the stack that `StreamTeacher` makes. The bare loop
has a copy of the encoder, one linear layer, the same groups in a fused AdamW, the same schedule,
clip and autocast, and knows nothing else. `ewc`: the bare loop is plain, so the ratio is what EWC
costs; F holds the rows of about 6,000 tokens. `replay`: 24 new rows and 8 remembered ones against
32 rows of one batch. A second copy of the bare loop shows the noise. All loops of a repeat run
under our allocator settings (`keep_freed_memory`), so what these gain is not in the ratios.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoTokenizer

from ratchet.pipelines.data.prepared import HeldOut, PreparedData
from ratchet.pipelines.data.tokens import TokenizedRows, tokenize
from ratchet.pipelines.models.source import model_location
from ratchet.pipelines.quiet import quiet_libraries
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.training.allocator import keep_freed_memory
from ratchet.pipelines.training.checkpoint import FolderCheckpoints
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.loop import Position, StageLoop
from ratchet.pipelines.training.stream import StreamTeacher
from ratchet.pipelines.training.workers import SingleWorker
from ratchet.pipelines.types import Batch, Task
from tests.benchmarks.timing import interleaved, show_ratio

CLASSES = 10
ROWS = 32
REMEMBERED = 8
NUM_WORDS = 6000
NUM_STEPS = 10_000
METHODS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "ewc": [{"type": "ewc", "strength": 1000}],
    "replay": [{"type": "replay", "capacity": 1000, "fraction": REMEMBERED / ROWS}],
    "replay, ewc": [
        {"type": "replay", "capacity": 1000, "fraction": REMEMBERED / ROWS},
        {"type": "ewc", "strength": 1000},
    ],
}


def texts_of(num_rows: int, length: int, seed: int) -> list[str]:
    """Texts of common words that make exactly `length` tokens each, with the two at the ends."""
    tokenizer = AutoTokenizer.from_pretrained(model_location("minilm"))
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [word for word, _ in vocabulary if word.isascii() and word.isalpha()][:NUM_WORDS]
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randint(0, len(words), (num_rows, length - 2), generator=generator)
    return [" ".join(words[index] for index in row) for row in drawn.tolist()]


def rows_of(task: Task, num_rows: int, length: int) -> TokenizedRows:
    tokenizer = AutoTokenizer.from_pretrained(model_location("minilm"))
    targets = [task.class_ids[row % CLASSES] for row in range(num_rows)]
    texts = texts_of(num_rows, length, seed=task.id)
    rows = tokenize(texts, targets, [task.id] * num_rows, tokenizer, length)
    assert set(rows.lengths.tolist()) == {length}, "every row is full: no way profits from padding"
    return rows


def make_loop(
    methods: list[dict[str, Any]], precision: str, length: int, folder: Path, batch_size: int
) -> StageLoop:
    """The loop at the first step of the second task, as an update would come to it."""
    spec = UpdateSpec.model_validate(
        {
            "lineage": "benchmark",
            "model": {"name": "minilm"},
            "stream": {"train": "unused", "classes_per_task": CLASSES},
            "methods": methods,
            "training": {
                "precision": precision,
                "batch_size": batch_size,
                "max_length": length,
                "learning_rate": 1e-6,
                "num_epochs": NUM_STEPS,
            },
        }
    )
    tasks = tuple(
        Task(place, name, tuple(range(place * CLASSES, (place + 1) * CLASSES)), place)
        for place, name in enumerate(("first", "second"))
    )
    labels = tuple(f"label {index}" for index in range(2 * CLASSES))
    job = UpdateJob(spec, labels, tasks, 0, folder, None)
    # The first task has what fills the memory and shows the words; no more, its Fisher is dear.
    num_first = max(512, 3 * NUM_WORDS // length) if methods else ROWS
    sizes = (num_first, ROWS * 4)
    rows = [rows_of(task, size, length) for task, size in zip(tasks, sizes, strict=True)]
    held_out = {task.id: HeldOut(own, len(own)) for task, own in zip(tasks, rows, strict=True)}
    data = PreparedData(dict(enumerate(rows)), held_out)
    store = FolderCheckpoints(folder / "checkpoints")
    teacher = StreamTeacher(job, data, SingleWorker(), torch.device("cpu"), store)
    teacher._start_lineage(None)
    for stage in job.stages:
        teacher._expand(stage)
        ctx = teacher._context(stage)
        teacher.stack.activate(teacher.model, stage[-1].id)
        teacher.stack.begin_task(ctx)
        if stage[0].id == 0:
            teacher.stack.end_task(ctx)
    loop = StageLoop(ctx, teacher.stack, rows[1], spec.training, SingleWorker())
    loop.start(Position())
    loop.model.train()
    return loop


class Bare(nn.Module):
    """An encoder, the mean of its states and a linear layer."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = copy.deepcopy(backbone)
        self.head = nn.Linear(384, 2 * CLASSES)

    def forward(self, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
        hidden = self.backbone(**inputs).last_hidden_state.float()
        mask = inputs["attention_mask"].unsqueeze(-1).float()
        features = (hidden * mask).sum(1) / mask.sum(1)
        with torch.autocast("cpu", enabled=False):
            return self.head(features)


def bare_step(loop: StageLoop) -> Callable[[Batch], float]:
    """The least that a training step can be, with the loop's settings."""
    model = Bare(loop.model.backbone).train()
    assert loop.optimizer is not None
    settings = loop.training
    groups = [
        {"params": [p for p in model.parameters() if p.ndim > 1], "weight_decay": 0.01},
        {"params": [p for p in model.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, fused=True)
    schedule = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / NUM_STEPS))
    parameters = list(model.parameters())

    def step(batch: Batch) -> float:
        with loop.ctx.autocast():
            logits = model(batch.inputs)
        loss = functional.cross_entropy(logits, batch.targets)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, settings.max_grad_norm or 0.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


def turns_of(step: Callable[[Batch], float], batches: list[Batch]) -> Callable[[], None]:
    """Two steps over the next batches."""
    turn = itertools.cycle(batches)

    def work() -> None:
        for _ in range(2):
            step(next(turn))

    return work


def measure(name: str, precision: str, length: int, repeats: int) -> None:
    batch_size = ROWS - REMEMBERED if "replay" in name else ROWS
    with tempfile.TemporaryDirectory() as folder:
        loop = make_loop(METHODS[name], precision, length, Path(folder), batch_size)
        rows = loop.rows
        new = [rows.batch(range(k * batch_size, (k + 1) * batch_size)) for k in range(4)]
        # The bare loop trains on as many rows as ours, put together beforehand.
        whole = [rows.batch(range(k * ROWS, (k + 1) * ROWS)) for k in range(4)]
        ways: dict[str, Callable[[], object]] = {
            "ours": turns_of(loop.step, new),
            "bare": turns_of(bare_step(loop), whole),
            "again": turns_of(bare_step(loop), whole),
        }
        keep_freed_memory()
        timings = interleaved(ways, repeats)
    milliseconds = timings["bare"].median("cpu") / 2 * 1e3
    print(f"{name}, {precision}, {ROWS} x {length} tokens: bare step {milliseconds:.0f} ms cpu")
    show_ratio("ours / bare", timings["ours"], timings["bare"])
    show_ratio("bare / a second copy of bare", timings["bare"], timings["again"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS)[:3])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 12])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    quiet_libraries()
    torch.set_num_threads(arguments.threads)
    for name, precision, length in itertools.product(
        arguments.methods, arguments.precisions, arguments.lengths
    ):
        measure(name, precision, length, arguments.repeats)


if __name__ == "__main__":
    main()
