"""What earlier studies of a lineage found, and a later one tries first."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipelines.atomic_file import write_atomically
from pipelines.tune_spec import TuneSpec
from pipelines.tuning.study import STUDY_FILE

DONE_FILE = "done"
FIRST_FILE = "tried_first.json"


def tried_first(own: Path, tune: TuneSpec) -> Sequence[Mapping[str, Any]]:
    """Settings that a study tries first: asked once, so that one that goes on has the same.

    Args:
        own: The study's folder.
        tune: What it searches.
    """
    if not tune.warm_start:
        return ()
    path = own / FIRST_FILE
    if not path.is_file():
        write_atomically(path, json.dumps(earlier_front(own, tune)))
    return json.loads(path.read_text(encoding="utf-8"))


def earlier_front(own: Path, tune: TuneSpec) -> list[Mapping[str, Any]]:
    """Settings on the front of the latest finished study of the same lineage and fields.

    Args:
        own: The folder of the study that asks; the others lie beside it.
        tune: What it searches.
    """
    known = [done.parent for done in own.parent.glob(f"*/{DONE_FILE}") if done.parent != own]
    for folder in sorted(known, key=lambda folder: -(folder / DONE_FILE).stat().st_mtime):
        raw = json.loads((folder / STUDY_FILE).read_text(encoding="utf-8"))
        if raw["tune"]["parameters"].keys() == tune.parameters.keys():
            by_number = {trial["number"]: trial for trial in raw["trials"]}
            return [by_number[number]["settings"] for number in raw["front"]]
    return []
