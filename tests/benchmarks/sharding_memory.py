"""Memory of one worker with whole and with sharded parameters, as a table.

    python -m tests.benchmarks.sharding_memory [--workers 1 2 4] [--hidden 768] [--layers 12]

A randomly initialized encoder is loaded, takes steps over two tasks, measures EWC's importances
after each and, beside the frozen base, the router's features. One worker holds everything; several
share it out. Each phase's figure is the highest resident memory in it above what the process had
before it loaded the model; `kept` counts the bytes of parameters, moments and method state that a
worker holds between two steps.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from ratchet.pipelines.models.shards import own_part
from ratchet.pipelines.quiet import quiet_libraries
from ratchet.pipelines.training.loop import Position, StageLoop
from ratchet.pipelines.training.stream import StreamTeacher
from ratchet.pipelines.training.workers import GroupWorkers
from tests.conformance.groups import in_group
from tests.conformance.streams import plan_of, teacher_of
from tests.tiny import save_tiny_model

STEPS = 2
VOCABULARY = 30_000
STACKS = {
    "finetune": [],
    "lora": [{"type": "lora", "rank": 8}],
    "ewc": [{"type": "ewc", "labels": "observed", "max_examples": 8}],
}
PHASES = ("load", "steps", "importances", "router", "steps 2")
_MMAP_THRESHOLD = -3


def save_model(folder: Path, hidden: int, layers: int) -> int:
    """Write a random encoder with the tiny one's tokenizer; returns its number of parameters."""
    save_tiny_model(folder)
    AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
    config = BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def status(field: str) -> int:
    """A field of this process's memory, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise RuntimeError(f"/proc/self/status has no {field}")


class Peaks(dict[str, float]):
    """The highest resident memory of each phase above a baseline, in megabytes."""

    def __init__(self) -> None:
        self.baseline = status("VmRSS")

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        yield
        self[name] = (status("VmHWM") - self.baseline) / 1e6


def measure(workers: GroupWorkers, plan) -> dict[str, float]:
    """What one worker needed."""
    quiet_libraries()
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 65536)  # what is freed goes back at once
    peaks = Peaks()
    started = time.perf_counter()
    with peaks.phase("load"):
        teacher = teacher_of(plan, workers=workers)
    teacher._start_lineage(None)
    with peaks.phase("steps"):
        loop = steps(teacher, 0)
    peaks["kept"] = kept(teacher, loop)
    with peaks.phase("importances"):
        teacher.stack.end_task(loop.ctx)
    with peaks.phase("router"):
        teacher._update_router(plan.job.stages[0])
    del loop
    with peaks.phase("steps 2"):
        loop = steps(teacher, 1)
    peaks["kept 2"] = kept(teacher, loop)
    peaks["seconds"] = time.perf_counter() - started
    return dict(peaks)


def steps(teacher: StreamTeacher, index: int) -> StageLoop:
    """Begin a stage and take the first of its steps."""
    stage = teacher.job.stages[index]
    teacher._expand(stage)
    ctx = teacher._context(stage)
    teacher.stack.activate(teacher.model, stage[-1].id)
    loop = StageLoop(ctx, teacher.stack, teacher._rows(stage), teacher.training, teacher.workers)
    teacher.stack.begin_task(ctx)
    loop.start(Position())
    teacher.model.train()
    for step, batch in enumerate(loop._epoch(0, 0)):
        if step < STEPS:
            loop.step(batch)
    return loop


def kept(teacher: StreamTeacher, loop: StageLoop) -> float:
    """Megabytes of parameters, moments and method state."""
    assert loop.optimizer is not None
    tensors = [own_part(parameter) for parameter in teacher.model.parameters()]
    tensors += loop.optimizer.state_dict()[0].values()
    for state in teacher.stack.state_dicts().values():
        tensors += state.tensors.values()
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors) / 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--stacks", nargs="+", default=list(STACKS), choices=list(STACKS))
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("kept", *PHASES, "kept 2", "seconds")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = save_model(folder / "model", options.hidden, options.layers)
        print(f"{size / 1e6:.1f} million parameters, fp32; megabytes of the worst worker")
        print(f"{'stack':<10}{'workers':>8}" + "".join(f"{c:>13}" for c in columns))
        for stack in options.stacks:
            for num_workers in options.workers:
                run = folder / f"{stack}_{num_workers}"
                sections = {"training": {"batch_size": 8}, "scaling": SHARDED}
                plan = plan_of(folder / "model", run, STACKS[stack], **sections)
                found = in_group(num_workers, run / "found", measure, plan)
                worst = {column: max(one[column] for one in found) for column in columns}
                figures = "".join(f"{worst[column]:>13.0f}" for column in columns)
                print(f"{stack:<10}{num_workers:>8}{figures}", flush=True)


SHARDED = {"num_workers": 2, "sharding": "fsdp"}

if __name__ == "__main__":
    main()
