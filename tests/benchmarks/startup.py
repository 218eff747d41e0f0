"""From the command to the first training step: where the seconds go.

    python -m tests.benchmarks.startup [--workers 0 2] [--repeats 3]

Runs `ratchet run` on the quickstart's plain spec, each time in a new process with a new home,
reads from the times of the run's files and events when each mark was passed, and ends the command
once the first step is told. On a busy machine the seconds say little: the load average stands
beside them, and with no workers the processor seconds of the command too.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPEC = Path(__file__).parents[2] / "configs" / "quickstart" / "plain.yaml"
COMMAND = [sys.executable, "-c", "from ratchet.service.cli import main; main()", "run", str(SPEC)]
LIMIT_SECONDS = 240
BEGINNING = "imports, Ray"  # the run's folder is there
FILES = {
    "reading, tokenizing": "outbox.jsonl",
    "Ray Train's imports, data to disk": "data/index.json",
}
EVENTS = {
    "worker group": "worker_started",
    "model, structure": "stage_started",
    "first step": "step",
}


def first_step(num_workers: int) -> tuple[dict[str, float], float]:
    """Seconds from the command to each mark, and the processor seconds of the command."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as home:
        started = time.time()
        process = subprocess.Popen(
            [*COMMAND, "--home", home, "--set", f"scaling.num_workers={num_workers}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"HF_HUB_OFFLINE": "1"},
        )
        marks: dict[str, float] = {}
        try:
            while "first step" not in marks:
                if process.poll() is not None or time.time() - started > LIMIT_SECONDS:
                    raise RuntimeError(f"no training step: {COMMAND}, exit {process.returncode}")
                time.sleep(0.02)
                look(Path(home), started, marks)
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return marks, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def look(home: Path, started: float, marks: dict[str, float]) -> None:
    """Note the marks that were passed since the last look; a poll is 20 ms."""
    for folder in home.glob("runs/*/*"):
        marks.setdefault(BEGINNING, time.time() - started)
        for name, file in FILES.items():
            if (folder / file).exists():
                marks.setdefault(name, time.time() - started)
        events = folder / "events.jsonl"
        if not events.exists():
            return
        lines = [line for line in events.read_text("utf-8").splitlines(True) if line.endswith("\n")]
        for name, kind in EVENTS.items():
            times = [event["time"] for event in map(json.loads, lines) if event["kind"] == kind]
            if times:
                marks.setdefault(name, times[0] - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    found: dict[int, list[dict[str, float]]] = {workers: [] for workers in arguments.workers}
    for _ in range(arguments.repeats):
        for workers in arguments.workers:
            load = os.getloadavg()[0]
            marks, cpu = first_step(workers)
            found[workers].append(marks)
            spent = f", {cpu:.1f} s of processor time" if workers == 0 else ""
            print(f"{workers} workers: {marks['first step']:.1f} s, load {load:.1f}{spent}")
    for workers, runs in found.items():
        print(
            f"{workers} workers, medians of {len(runs)} runs: seconds at the mark, since the last"
        )
        last = 0.0
        for name in [BEGINNING, *FILES, *EVENTS]:
            times = [run[name] for run in runs if name in run]
            if times:
                middle = statistics.median(times)
                print(f"  {name:<36} {middle:6.1f} {middle - last:6.1f}", flush=True)
                last = middle


if __name__ == "__main__":
    main()
