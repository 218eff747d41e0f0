"""Write the departments' stream with the same number of training rows, differently made up.

    python configs/studies/vary_data.py FOLDER

Each task has 72 training rows over its six labels: `even.yaml` 12 different ones a label,
`redundant.yaml` 3 a label, each four times, `long_tail.yaml` 30, 18, 11, 7, 4 and 2 of the labels
in alphabetical order. Validation and test rows stay as they are.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import yaml

STREAM = Path(__file__).with_name("departments.yaml")
TAIL = (30, 18, 11, 7, 4, 2)
Row = dict[str, str]


def even(rows: list[Row], _place: int) -> list[Row]:
    """Twelve different rows."""
    return rows[:12]


def redundant(rows: list[Row], _place: int) -> list[Row]:
    """Three different rows, four times each."""
    return rows[:3] * 4


def long_tail(rows: list[Row], place: int) -> list[Row]:
    """Fewer rows the later the label."""
    return rows[: TAIL[place]]


VARIANTS = (even, redundant, long_tail)


def write(folder: Path) -> None:
    """Write the rows and a spec of each variant."""
    spec: dict[str, Any] = yaml.safe_load(STREAM.read_text(encoding="utf-8"))
    for variant in VARIANTS:
        own = {**spec, "tasks": [_task(folder, task, variant) for task in spec["tasks"]]}
        path = folder / f"{variant.__name__}.yaml"
        path.write_text(yaml.safe_dump(own, sort_keys=False), encoding="utf-8")


def _task(folder: Path, task: dict[str, str], variant: Any) -> dict[str, str]:
    source = (STREAM.parent / task["train"]).resolve()
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    random.Random(0).shuffle(rows)
    chosen: list[Row] = []
    for place, label in enumerate(sorted({row["label"] for row in rows})):
        chosen += variant([row for row in rows if row["label"] == label], place)
    target = folder / variant.__name__ / f"{task['name']}.jsonl"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text("".join(json.dumps(row) + "\n" for row in chosen), encoding="utf-8")
    held = {split: str((STREAM.parent / task[split]).resolve()) for split in ("validation", "test")}
    return {"name": task["name"], "train": str(target.resolve()), **held}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
