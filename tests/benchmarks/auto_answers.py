"""What `auto` answers after 15 tasks of CLINC150, by each way, and what the gate says of it.

    python -m tests.benchmarks.auto_answers finetune replay_ewc lora_per_task --seeds 0

Ten training rows a label by default. Prints a row of a table for each preset and seed: accuracy on
test rows over all heads, with the task given, and as served; then, on validation rows and without
rejection, by each way; last what the tasks lost from right after learning to the end, as served, in
points: the median over tasks and the largest. `--out` keeps all of it as JSON lines. The data lies
in `../shared/data/clinc150` beside the checkout.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "clinc150"
WAYS = ("heads", "routed", "prototypes", "mixture")
HEADER = "| preset | seed | all heads | task given | as served | by | {} | served loss |"


def cut(source: Path, target: Path, rows_per_label: int) -> str:
    """The first rows of each label, in their order."""
    seen: Counter[str] = Counter()
    kept = []
    for line in source.read_text(encoding="utf-8").splitlines():
        label = json.loads(line)["label"]
        seen[label] += 1
        if seen[label] <= rows_per_label:
            kept.append(line)
    target.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return str(target)


def run(preset: str, seed: int, arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    from ratchet.pipelines.registry.home import Home
    from ratchet.pipelines.spec.reading import parse_spec
    from tests.tiny import run_update

    stream: dict[str, Any] = {
        "train": cut(DATA / "train.jsonl", folder / "train.jsonl", arguments.train),
        "validation": cut(DATA / "val.jsonl", folder / "val.jsonl", arguments.validation),
        "test": cut(DATA / "test.jsonl", folder / "test.jsonl", arguments.test),
    }
    if arguments.tasks == "domains":
        stream["by"] = "domain"
    else:
        stream |= {"classes_per_task": 150 // int(arguments.tasks), "order": "sorted"}
    raw = {
        "lineage": "clinc150",
        "model": {"name": "minilm"},
        "stream": stream,
        "preset": preset,
        "training": {"seed": seed, "max_length": 48},
        "gate": {"max_forgetting": 0.02, "max_served_loss": 0.05},
        "routing": {"answer_by": arguments.answer_by},
    }
    home = Home(folder / f"{preset}_{seed}", None)
    result = run_update(parse_spec(raw, folder), home)
    comparisons = result["gate"]["comparisons"]
    return {
        "preset": preset,
        "seed": seed,
        "metrics": result["metrics"],
        "as_served": result["as_served"],
        "served_loss": {c["task"]: c["served"]["loss"] for c in comparisons if c["served"]},
        "own_loss": {c["task"]: c["own"]["loss"] for c in comparisons if c["own"]},
        "promoted": result["promoted"],
        "headline": result["gate"]["headline"],
        "seconds": result["seconds"],
    }


def row(found: dict[str, Any]) -> str:
    """A run as a row of the table."""
    metrics, rule = found["metrics"], found["as_served"]["answering"]
    losses = [100 * loss for loss in found["served_loss"].values()] or [0.0]
    cells = [
        found["preset"],
        str(found["seed"]),
        *(
            _percent(metrics.get(f"average_accuracy_{name}"))
            for name in ("all_heads", "task_given", "as_served")
        ),
        rule["by"],
        *(_percent(rule["accuracy"].get(way)) for way in WAYS),
        f"{statistics.median(losses):.1f}, {max(losses):.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("presets", nargs="+")
    parser.add_argument("--tasks", default="15", help="`domains`, or the number of tasks")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--train", type=int, default=10, help="training rows a label")
    parser.add_argument("--validation", type=int, default=10, help="validation rows a label")
    parser.add_argument("--test", type=int, default=8, help="test rows a label")
    parser.add_argument("--answer-by", default="auto")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    from ratchet.pipelines.quiet import quiet_libraries

    quiet_libraries()
    print(HEADER.format(" | ".join(f"validation: {way}" for way in WAYS)))
    with tempfile.TemporaryDirectory(prefix="auto_answers_") as folder:
        for preset in arguments.presets:
            for seed in arguments.seeds:
                found = run(preset, seed, arguments, Path(folder))
                print(row(found), flush=True)
                if arguments.out is not None:
                    with arguments.out.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
