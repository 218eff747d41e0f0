"""What a new column gains from earlier ones: a task of few examples, after other tasks and alone.

    python -m tests.benchmarks.columns_transfer --before amazon --targets yelp --shots 8 16

Teaches the tasks of `--before` to MiniLM, then each target with a few examples a class; beside it
the same task with the same column and nothing before it, with the same column beside a base of
random weights, and with heads on the frozen base alone. A task is a domain of CLINC150 or a data
set of topics4, in `../shared/data` beside the checkout. The earlier tasks are learned once; a seed
draws the few examples and the initial weights. Prints accuracies with the task id, on validation
and on test rows, a JSON object a run, then medians. Settings are to be chosen by the first only:
`--test-rows 1` measures next to nothing on the second.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.benchmarks.standard_streams import DATA, cut, read, write

SPLITS = {"train": "train", "validation": "val", "test": "test"}
CONDITIONS = ("after", "alone", "random", "frozen")


def rows_of(task: str, split: str) -> list[dict[str, str]]:
    """All rows of a task's split: a folder of topics4, or a domain of CLINC150."""
    folder = DATA / "topics4" / task
    if folder.is_dir():
        return read(folder / f"{split}.jsonl")
    return [row for row in read(DATA / "clinc150" / f"{split}.jsonl") if row["domain"] == task]


def write_task(folder: Path, task: str, sizes: dict[str, int | None], seed: int) -> dict[str, str]:
    """The splits of a task with so many rows a class; its part of a spec.

    The seed draws the training rows only: validation and test rows are the same for all seeds.
    """
    part = {"name": task}
    for split, file in SPLITS.items():
        rows = cut(rows_of(task, file), sizes[split], seed if split == "train" else 0)
        random.Random(seed).shuffle(rows)
        part[split] = write(folder / f"{task}.{split}.jsonl", rows)
    return part


def teach(
    home: Path, tasks: list[dict[str, str]], training: dict[str, Any], model: str, **method: Any
) -> dict[str, float]:
    """Teach tasks to the lineage of a home; the last one's accuracies with its task id."""
    from ratchet.pipelines.registry.home import Home
    from ratchet.pipelines.spec.reading import parse_spec
    from ratchet.pipelines.version import read_matrix
    from tests.tiny import run_update

    spec = {
        "lineage": "transfer",
        "model": {"name": model},
        "scenario": "task_incremental",
        "tasks": tasks,
        "methods": [method],
        "training": {"batch_size": 16, "checkpoint_every_steps": None} | training,
        "scaling": {"num_workers": 0},
        "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
    }
    result = run_update(parse_spec(spec, Path.cwd()), Home(home, None))
    matrix = read_matrix(Home(home, None).registry.path("transfer", result["version"]))
    return {m: round(matrix[f"{m}_own"][-1][-1], 4) for m in ("validation", "test")}


class Comparison:
    """The earlier tasks, learned once, and what a later task is compared in.

    Args:
        arguments: The command line.
        folder: Where rows, homes and the random base go.
    """

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        self.arguments = arguments
        self.folder = folder
        self.home = arguments.home or folder / "home"
        self.columns = {"type": "columns", **arguments.columns}
        if "random" in arguments.conditions:
            from configs.studies.random_start import write as write_random

            write_random(folder / "random", "minilm", 0)

    def training(self, seed: int, num_epochs: int) -> dict[str, Any]:
        given = self.arguments
        return {
            "seed": seed,
            "num_epochs": num_epochs,
            "max_length": given.max_length,
            "learning_rate": given.rate,
            "head_learning_rate": given.head_rate,
        }

    def learn_earlier(self) -> dict[str, float] | None:
        """Teach the earlier tasks; the last one's accuracies, None where they were known."""
        given = self.arguments
        if self.home.exists():
            return None
        sizes = {"train": given.earlier_shots, "validation": 10, "test": 10}
        tasks = [write_task(self.folder / "earlier", task, sizes, 0) for task in given.before]
        training = self.training(0, given.epochs)
        return teach(self.home, tasks, training, "minilm", **self.columns)

    def run(self, target: str, shots: int, seed: int) -> dict[str, Any]:
        """The accuracies of one seed in every condition."""
        given = self.arguments
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        sizes = {"train": shots, "validation": given.validation_rows, "test": given.test_rows}
        task = write_task(folder / "rows", target, sizes, seed)
        training, started = self.training(seed, given.few_epochs), time.process_time()
        found: dict[str, Any] = {"target": target, "shots": shots, "seed": seed}
        for condition in given.conditions:
            home = folder / condition
            if condition == "after":
                shutil.copytree(self.home, home)
            model = str(self.folder / "random") if condition == "random" else "minilm"
            frozen = {"type": "freeze", "num_blocks": 0}
            method = frozen if condition == "frozen" else self.columns
            found[condition] = teach(home, [task], training, model, **method)
        shutil.rmtree(folder)
        return found | {"seconds": round(time.process_time() - started)}


def medians(found: list[dict[str, Any]], conditions: list[str], measure: str) -> dict[str, float]:
    """The median accuracy of each condition and the median gain of the first over the others."""
    values = {name: [run[name][measure] for run in found] for name in conditions}
    result = {name: statistics.median(each) for name, each in values.items()}
    first, *others = conditions
    for other in others:
        gains = [one - two for one, two in zip(values[first], values[other], strict=True)]
        result[f"gain_over_{other}"] = round(statistics.median(gains), 4)
    return result


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--targets", nargs="+", default=["credit_cards"])
    parser.add_argument("--before", nargs="+", default=["banking", "travel", "work"])
    parser.add_argument("--conditions", nargs="+", default=CONDITIONS, choices=CONDITIONS)
    parser.add_argument("--shots", type=int, nargs="+", default=[5], help="training rows a class")
    parser.add_argument("--earlier-shots", type=int, default=50)
    parser.add_argument("--validation-rows", type=int, help="rows a class (default: all)")
    parser.add_argument("--test-rows", type=int, help="rows a class (default: all)")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--few-epochs", type=int, default=20)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--head-rate", type=float, default=5e-3)
    parser.add_argument("--max-length", type=int, default=48)
    parser.add_argument("--home", type=Path, help="keeps the version that knows the earlier tasks")
    parser.add_argument("--columns", type=json.loads, default={}, help="settings of the method")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return parser.parse_args()


def main() -> None:
    from tests.benchmarks.remembered_base import remembered_base

    arguments = parsed()
    with (
        tempfile.TemporaryDirectory(prefix="columns_transfer_") as folder,
        remembered_base(),
    ):
        comparison = Comparison(arguments, Path(folder))
        print(json.dumps({"earlier": comparison.learn_earlier()}), flush=True)
        for target in arguments.targets:
            for shots in arguments.shots:
                found = []
                for seed in arguments.seeds:
                    found.append(comparison.run(target, shots, seed))
                    print(json.dumps(found[-1]), flush=True)
                median = {"target": target, "shots": shots}
                for measure in ("validation", "test"):
                    median[measure] = medians(found, list(arguments.conditions), measure)
                print(json.dumps({"median": median}), flush=True)


if __name__ == "__main__":
    main()
