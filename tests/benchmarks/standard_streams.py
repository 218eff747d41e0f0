"""The standard sequences of the results table, cut to the same number of rows a class for all.

    python -m tests.benchmarks.standard_streams FOLDER --train 20 --validation 5 --test 10

Writes the rows and a spec for `ratchet compare` each: `clinc_domains.yaml` (10 tasks of 15
intents), `clinc_15x10.yaml` (15 tasks of 10 intents, sorted by name) and `topics4.yaml` (dbpedia,
amazon, yelp, agnews). Rows are drawn by a fixed seed; they come from `../shared/data` beside the
checkout. In topics4 amazon and yelp both rate with five stars: their labels carry the data set's
name, so that a label without the task id says which of them is meant.
"""

from __future__ import annotations

import argparse
import json
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = {"train": "train", "validation": "val", "test": "test"}
TOPICS = ("dbpedia", "amazon", "yelp", "agnews")
CLINC_TRAINING = {"max_length": 48}
TOPICS_TRAINING = {"max_length": 64}


def cut(rows: list[dict[str, str]], per_class: int | None, seed: int = 0) -> list[dict[str, str]]:
    """At most `per_class` rows of each label, in the order of the file."""
    if per_class is None:
        return rows
    groups: dict[str, list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        groups[row["label"]].append(place)
    draw = random.Random(seed)
    chosen = {
        place
        for members in groups.values()
        for place in draw.sample(members, min(per_class, len(members)))
    }
    return [row for place, row in enumerate(rows) if place in chosen]


def read(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[dict[str, str]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def clinc(folder: Path, sizes: dict[str, int | None]) -> dict[str, str]:
    return {
        split: write(
            folder / "clinc" / f"{split}.jsonl",
            cut(read(DATA / "clinc150" / f"{file}.jsonl"), sizes[split]),
        )
        for split, file in FILES.items()
    }


def topics(folder: Path, sizes: dict[str, int | None]) -> list[dict[str, str]]:
    tasks = []
    for name in TOPICS:
        task = {"name": name}
        for split, file in FILES.items():
            rows = cut(read(DATA / "topics4" / name / f"{file}.jsonl"), sizes[split])
            marked = [{**row, "label": f"{name}: {row['label']}"} for row in rows]
            task[split] = write(folder / name / f"{split}.jsonl", marked)
        tasks.append(task)
    return tasks


def save_spec(folder: Path, name: str, data: dict[str, Any], training: dict[str, Any]) -> None:
    spec = {
        "lineage": name,
        "model": {"name": "minilm"},
        **data,
        "methods": [],
        "training": training,
        "gate": {"max_forgetting": 1.0, "max_served_loss": 1.0},
        "evaluation": {"probe": True},
    }
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    for split in FILES:
        parser.add_argument(f"--{split}", type=int, help="rows a class (default: all)")
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    sizes = {split: getattr(arguments, split) for split in FILES}
    splits = clinc(folder, sizes)
    save_spec(folder, "clinc_domains", {"stream": {**splits, "by": "domain"}}, CLINC_TRAINING)
    by_classes = {**splits, "classes_per_task": 10, "order": "sorted"}
    save_spec(folder, "clinc_15x10", {"stream": by_classes}, CLINC_TRAINING)
    save_spec(folder, "topics4", {"tasks": topics(folder, sizes)}, TOPICS_TRAINING)


if __name__ == "__main__":
    main()
