"""What a new column gains from earlier ones: a task of few examples, after other tasks and alone.

    python -m tests.benchmarks.columns_transfer --shots 5 --seeds 0 1 2

Teaches some domains of CLINC150 to MiniLM, then another with a few examples a class; beside it the
same task with the same column and nothing before it, and heads on the frozen base alone. Prints
test accuracies with the task id, a JSON object a seed, then medians. The data lies in
`../shared/data/clinc150` beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.clinc150 import DATA


def write_domain(folder: Path, domain: str, shots: int, seed: int) -> dict[str, str]:
    """The splits of a domain with so many training rows a class; its part of a spec."""
    folder.mkdir(parents=True, exist_ok=True)
    task = {"name": domain}
    for split, field in (("train", "train"), ("val", "validation"), ("test", "test")):
        lines = (DATA / f"{split}.jsonl").read_text().splitlines()
        rows = [row for row in map(json.loads, lines) if row["domain"] == domain]
        if split == "train":
            random.Random(seed).shuffle(rows)
            found: dict[str, list[Any]] = {}
            for row in rows:
                found.setdefault(row["label"], []).append(row)
            rows = [row for same in found.values() for row in same[:shots]]
        path = folder / f"{domain}.{split}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
        task[field] = str(path)
    return task


def teach(home: Path, tasks: list[dict[str, str]], methods: list[Any], **training: Any) -> float:
    """Teach tasks to the lineage of a home; the last one's test accuracy with its task id."""
    from pipelines.run import Home, run_update
    from pipelines.spec_file import parse_spec

    spec = {
        "lineage": "transfer",
        "model": {"name": "minilm"},
        "scenario": "task_incremental",
        "tasks": tasks,
        "methods": methods,
        "training": {"batch_size": 16, "max_length": 48, "checkpoint_every_steps": None} | training,
        "scaling": {"num_workers": 0},
        "gate": {"max_forgetting": 1.0},
    }
    result = run_update(parse_spec(spec, Path.cwd()), Home(home, None))
    return result["accuracy_matrix"][-1][-1]


def run(arguments: argparse.Namespace, seed: int, target: str) -> dict[str, Any]:
    """The three accuracies of one seed."""
    folder = Path(tempfile.mkdtemp(prefix="columns_transfer_"))
    columns = [{"type": "columns", **arguments.columns}]
    rate = {"learning_rate": arguments.rate, "head_learning_rate": arguments.head_rate}
    many = {"seed": seed, "num_epochs": arguments.epochs, **rate}
    few = {"seed": seed, "num_epochs": arguments.few_epochs, **rate}
    before = [domain for domain in arguments.before if domain != target]
    earlier = [write_domain(folder / "rows", d, arguments.earlier_shots, seed) for d in before]
    task = write_domain(folder / "few", target, arguments.shots, seed)
    started = time.time()
    teach(folder / "after", earlier, columns, **many)
    return {
        "seed": seed,
        "target": target,
        "after": teach(folder / "after", [task], columns, **few),
        "alone": teach(folder / "alone", [task], columns, **few),
        "frozen": teach(folder / "frozen", [task], [{"type": "freeze", "num_blocks": 0}], **few),
        "seconds": round(time.time() - started),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=["credit_cards"])
    parser.add_argument("--before", nargs="+", default=["banking", "travel", "work"])
    parser.add_argument("--shots", type=int, default=5, help="training rows a class of the target")
    parser.add_argument("--earlier-shots", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--few-epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--head-rate", type=float, default=5e-3)
    parser.add_argument("--columns", type=json.loads, default={}, help="settings of the method")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    found = []
    for target in arguments.targets:
        for seed in arguments.seeds:
            found.append(run(arguments, seed, target))
            print(json.dumps(found[-1]), flush=True)
    gains = [row["after"] - row["alone"] for row in found]
    medians = {k: statistics.median(r[k] for r in found) for k in ("after", "alone", "frozen")}
    print(json.dumps({"median": medians | {"gain": statistics.median(gains)}}))


if __name__ == "__main__":
    main()
