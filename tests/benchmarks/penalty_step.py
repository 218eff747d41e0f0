"""What the quadratic penalty adds to a training step.

    python -m tests.benchmarks.penalty_step [--threads 1 2] [--lengths 64 12] [--repeats 7]

All parameters of MiniLM and a head of 150 classes train. A step is forward, backward, clip and
fused AdamW, with dropout on. The penalty's `add_gradient` is timed inside each step; its share is
of the step without it. `seen` holds the rows of 6,000 tokens, about what 20,000 short texts show;
`dense` holds every row.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import time
from contextlib import nullcontext

import torch
import transformers

from ratchet.pipelines.methods.penalty import QuadraticPenalty
from tests.benchmarks.fisher_pass import Encoder, bf16, log_likelihood, make_batches


def make_penalty(model: Encoder, num_tokens: int | None) -> QuadraticPenalty:
    parameters = dict(model.named_parameters())
    importance = {name: torch.rand(value.shape) for name, value in parameters.items()}
    if num_tokens is not None:
        words = importance["backbone.embeddings.word_embeddings.weight"]
        unseen = torch.randperm(len(words), generator=torch.Generator().manual_seed(0))
        words[unseen[num_tokens:]] = 0.0
        importance["backbone.embeddings.position_embeddings.weight"][64:] = 0.0
    penalty = QuadraticPenalty()
    penalty.merge(importance, parameters)
    return penalty


def shares(
    model: Encoder, penalties: dict[str, QuadraticPenalty], length: int, autocast, repeats: int
) -> tuple[dict[str, list[float]], float]:
    """The share of each penalty in each step, and the median seconds of a bare step."""
    parameters = dict(model.named_parameters())
    optimizer = torch.optim.AdamW(parameters.values(), lr=1e-6, fused=True)
    (batch,) = make_batches(1, 32, length)
    found: dict[str, list[float]] = {name: [] for name in penalties}
    steps = []
    for repeat in range(repeats + 1):
        for name, penalty in penalties.items():
            start = time.perf_counter()
            with autocast():
                output = model(batch.inputs)
            log_likelihood(batch, output).mean().neg().backward()
            before = time.perf_counter()
            penalty.add_gradient(parameters, 1e-6)
            after = time.perf_counter()
            torch.nn.utils.clip_grad_norm_(parameters.values(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            bare = time.perf_counter() - start - (after - before)
            if repeat > 0:  # the first step allocates
                found[name].append((after - before) / bare)
                steps.append(bare)
    return found, statistics.median(steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 12])
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    model = Encoder().train()
    penalties = {"seen": make_penalty(model, 6000), "dense": make_penalty(model, None)}
    for threads, length, (precision, autocast) in itertools.product(
        arguments.threads, arguments.lengths, (("fp32", nullcontext), ("bf16", bf16))
    ):
        torch.set_num_threads(threads)
        found, step = shares(model, penalties, length, autocast, arguments.repeats)
        print(f"{threads} thread(s), 32 x {length} tokens, {precision}, step {step * 1e3:.0f} ms")
        for name, values in found.items():
            low, middle, high = (100 * f(values) for f in (min, statistics.median, max))
            print(f"  {name:<6} {middle:5.2f} % of the step   min {low:5.2f}   max {high:5.2f}")


if __name__ == "__main__":
    main()
