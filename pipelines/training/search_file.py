"""The trainings that a run's searches have done so far, so that none is done again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.formats import FORMAT_KEY, read_format_file
from ratchet.pipelines.training.task_search import Training

SEARCH_FILE = "search.json"
FORMAT = 1
HINT = "go on with the release that began this run, or remove its folder to begin it again"


@dataclass(frozen=True)
class _Trainings:
    tasks: Mapping[str, tuple[Training, ...]]


def write_trainings(path: Path, done: Mapping[str, Sequence[Training]]) -> None:
    """Write the trainings of each task, by its name."""
    tasks = {name: [asdict(training) for training in found] for name, found in done.items()}
    write_atomically(path, json.dumps({FORMAT_KEY: FORMAT, "tasks": tasks}))


def read_trainings(path: Path) -> dict[str, list[Training]]:
    """What `write_trainings` wrote.

    Raises:
        VersionError: The file is of another format, or broken.
    """
    tasks = read_format_file(_Trainings, path, FORMAT, HINT).tasks
    return {name: list(found) for name, found in tasks.items()}
