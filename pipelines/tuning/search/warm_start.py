"""What earlier studies of a lineage found, and a later one tries first."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.formats import read_format_file
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.page.files import FORMAT, STUDY_FILE
from ratchet.pipelines.tuning.search.space import holds
from ratchet.pipelines.tuning.trial import Settings

HINT = "remove its folder, or set tune.warm_start: false"
DONE_FILE = "done"
FIRST_FILE = "tried_first.json"


@dataclass(frozen=True)
class _Tried:
    number: int
    settings: Mapping[str, object]


@dataclass(frozen=True)
class _Earlier:
    """Of an earlier study: what it tried, and the numbers on its front."""

    trials: tuple[_Tried, ...]
    front: tuple[int, ...]


def tried_first(own: Path, tune: TuneSpec, say: Callable[[str], None]) -> Sequence[Settings]:
    """Settings that a study tries first: asked once, so that one that goes on has the same.

    Args:
        own: The study's folder.
        tune: What it searches.
        say: Told where they come from, when they are asked for.
    """
    if not tune.warm_start or tune.strategy == "stability_decay":
        return ()
    path = own / FIRST_FILE
    if not path.is_file():
        name, found = earlier_front(own, tune)
        write_atomically(path, json.dumps(found))
        say(
            f"warm start: the front of study {name} is tried first ({len(found)} settings)"
            if found
            else "warm start: no earlier study has a front in this space, so nothing is tried first"
        )
    return json.loads(path.read_text(encoding="utf-8"))


def earlier_front(own: Path, tune: TuneSpec) -> tuple[str, list[Settings]]:
    """The latest finished study of the same lineage with a front in the space, and that front.

    Args:
        own: The folder of the study that asks; the others lie beside it.
        tune: What it searches.

    Returns:
        The name of the study and the settings on its front that the space has; both empty where
        there is no such study.
    """
    known = [done.parent for done in own.parent.glob(f"*/{DONE_FILE}") if done.parent != own]
    for folder in sorted(known, key=lambda folder: -(folder / DONE_FILE).stat().st_mtime):
        earlier = read_format_file(_Earlier, folder / STUDY_FILE, FORMAT, HINT)
        by_number = {own.number: cast("Settings", own.settings) for own in earlier.trials}
        front = [by_number[number] for number in earlier.front]
        fitting = [settings for settings in front if holds(tune.parameters, settings)]
        if fitting:
            return folder.name, fitting
    return "", []
