"""Continual learning of CLINC150 with MiniLM: one row of the results table a call.

    python -m tests.benchmarks.clinc150 analytic --tasks 15 --seeds 0 1 2
    python -m tests.benchmarks.clinc150 lora_per_task --tasks domains --seeds 0 1 2

Prints one JSON object a run and appends it to `--out`. The data lies in `../shared/data/clinc150`
beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "clinc150"


def spec_of(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    stream: dict[str, Any] = {
        "train": str(DATA / "train.jsonl"),
        "validation": str(DATA / "val.jsonl"),
        "test": str(DATA / "test.jsonl"),
    }
    if arguments.tasks == "domains":
        stream["by"] = "domain"
    else:
        stream |= {"classes_per_task": 150 // int(arguments.tasks), "order": "sorted"}
    if arguments.order is not None:
        stream["order"] = arguments.order
    training: dict[str, Any] = {"seed": seed, "max_length": 48}
    training |= arguments.training
    return {
        "lineage": "clinc150",
        "model": {"name": "minilm"},
        "stream": stream,
        "preset": arguments.preset,
        "training": training,
        "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
    }


def run(arguments: argparse.Namespace, seed: int) -> dict[str, Any]:
    from ratchet.pipelines.registry.home import Home
    from ratchet.pipelines.spec.reading import parse_spec
    from ratchet.pipelines.training.events import RunEvent, StageDone
    from tests.tiny import run_update

    raw = spec_of(arguments, seed)
    if arguments.methods is not None:
        del raw["preset"]
        raw["methods"] = arguments.methods
    if arguments.preset == "analytic" and arguments.methods is None:
        raw["methods"] = [{"type": "analytic", "projection_seed": seed}]
        del raw["preset"]
    spec = parse_spec(raw, Path.cwd())
    home = Path(arguments.home or tempfile.mkdtemp(prefix="clinc150_"))
    started = time.time()

    def line(event: RunEvent) -> None:
        if isinstance(event, StageDone):
            last = {task: own["test_all"] for task, own in event.scores.items()}
            mean = sum(last.values()) / len(last)
            spent = time.time() - started
            print(f"  {event.tasks[-1]}: {mean:.4f} {spent:.0f}s", file=sys.stderr)

    result = run_update(spec, Home(home, None), on_event=line)
    with_id = result.get("with_task_id", {}).get("metrics", {})
    return {
        "preset": arguments.name or arguments.preset,
        "tasks": arguments.tasks,
        "seed": seed,
        "metrics": result["metrics"],
        "with_task_id": with_id,
        "seconds": result["seconds"],
        "training": spec.training.model_dump(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("preset")
    parser.add_argument("--tasks", default="15", help="`domains`, or the number of tasks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--order", help="order of the stream", default=None, type=json.loads)
    parser.add_argument("--methods", help="methods as JSON", type=json.loads)
    parser.add_argument("--training", help="training fields as JSON", type=json.loads, default={})
    parser.add_argument("--name", help="name of the row")
    parser.add_argument("--home", help="where the versions go (default: a new temporary folder)")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from ratchet.pipelines.quiet import quiet_libraries

    quiet_libraries()
    for seed in arguments.seeds:
        text = json.dumps(run(arguments, seed))
        print(text)
        if arguments.out is not None:
            with arguments.out.open("a") as stream:
                stream.write(text + "\n")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
