"""One worker with two threads against two workers with one thread, for the same global batch.

    python -m tests.benchmarks.workers_or_threads [--precisions bf16] [--lengths 64 12]

`StageLoop.step` on MiniLM with all of its weights training, 32 rows a step, in processes of their
own (gloo). The ways take turns, some steps each, within a repeat; a ratio above 1 says that two
workers took fewer seconds. Needs two idle cores to mean anything: the load average is printed.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as processes

from ratchet.pipelines.quiet import quiet_libraries
from ratchet.pipelines.training.allocator import WORKER_ALLOCATOR, keep_freed_memory
from ratchet.pipelines.training.workers import current_workers
from tests.benchmarks.timing import spread
from tests.benchmarks.training_step import ROWS, make_loop

STEPS = 3


def worker(
    rank: int,
    world_size: int,
    threads: int,
    precision: str,
    length: int,
    meeting: str,
    asked: Connection,
) -> None:
    """Take some steps whenever asked, and answer with their seconds."""
    quiet_libraries()
    torch.set_num_threads(threads)
    keep_freed_memory()
    if world_size > 1:
        place = f"file://{meeting}"
        dist.init_process_group("gloo", init_method=place, rank=rank, world_size=world_size)
    with tempfile.TemporaryDirectory() as folder:
        loop = make_loop([], precision, length, Path(folder), ROWS)
        loop.workers = current_workers()
        share = ROWS // world_size
        batch = loop.rows.batch(range(rank * share, (rank + 1) * share))
        loop.step(batch)
        asked.send(0.0)
        while asked.recv():
            started = time.perf_counter()
            for _ in range(STEPS):
                loop.step(batch)
            asked.send((time.perf_counter() - started) / STEPS)
    if world_size > 1:
        dist.destroy_process_group()


def start(
    world_size: int, threads: int, precision: str, length: int, folder: str
) -> tuple[list[Connection], list[processes.Process]]:
    context = processes.get_context("spawn")
    ends, members = [], []
    for rank in range(world_size):
        mine, theirs = context.Pipe()
        meeting = f"{folder}/meeting-{world_size}"
        arguments = (rank, world_size, threads, precision, length, meeting, theirs)
        member = context.Process(target=worker, args=arguments)
        member.start()
        ends.append(mine)
        members.append(member)
    for end in ends:
        end.recv()
    return ends, members


def step_seconds(ends: list[Connection]) -> float:
    """Seconds of a step of the whole group."""
    for end in ends:
        end.send(True)
    return max(end.recv() for end in ends)


def measure(precision: str, length: int, repeats: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        groups = {
            "one worker, two threads": start(1, 2, precision, length, folder),
            "two workers, one thread": start(2, 1, precision, length, folder),
        }
        times: dict[str, list[float]] = {name: [] for name in groups}
        for repeat in range(repeats):
            for name in list(groups) if repeat % 2 else list(reversed(groups)):
                times[name].append(step_seconds(groups[name][0]))
        for ends, members in groups.values():
            for end in ends:
                end.send(False)
            for member in members:
                member.join()
    print(f"{precision}, {ROWS} x {length} tokens, load {os.getloadavg()[0]:.1f}")
    for name, own in times.items():
        print(f"  {name:<26} {1 / statistics.median(own):6.2f} steps/s")
    one, two = times.values()
    print(f"  seconds, one / two         {spread([a / b for a, b in zip(one, two, strict=True)])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--lengths", type=int, nargs="+", default=[64, 12])
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    # Read when a process starts: for those that are spawned here.
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", **WORKER_ALLOCATOR})
    os.environ.pop("OMP_NUM_THREADS", None)
    for precision, length in itertools.product(arguments.precisions, arguments.lengths):
        measure(precision, length, arguments.repeats)


if __name__ == "__main__":
    main()
