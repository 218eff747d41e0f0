"""What a run of a comparison ended with: written by its process, read by the comparison's."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from ratchet.pipelines.errors import VersionError
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.formats import FORMAT_KEY, check_format, checked
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.update.result import UpdateResult

FORMAT = 1
HINT = "remove the run's folder to run it again, or compare with the release that wrote it"


@dataclass(frozen=True)
class RunDone:
    """A run that ended with a result, whose report lies in the run's folder."""

    result: UpdateResult


@dataclass(frozen=True)
class RunFailed:
    """A run that ended with an error: the name of its type, and its message."""

    type: str
    message: str


RunOutcome: TypeAlias = RunDone | RunFailed


def status_of(outcome: RunOutcome) -> str:
    """`done` or `failed`."""
    return "done" if isinstance(outcome, RunDone) else "failed"


def write_outcome(path: Path, outcome: RunOutcome) -> None:
    """Write what a run ended with, in one step."""
    if isinstance(outcome, RunDone):
        own: JsonObject = {"result": outcome.result.to_json()}
    else:
        own = {"error": asdict(outcome)}
    write_atomically(path, json.dumps({FORMAT_KEY: FORMAT, "status": status_of(outcome), **own}))


def read_outcome(path: Path) -> RunOutcome:
    """What `write_outcome` wrote.

    Raises:
        VersionError: It is of another format, or broken.
    """
    raw: Json = json.loads(path.read_text(encoding="utf-8"))
    check_format(raw, FORMAT, str(path), HINT)
    match raw:
        case {"status": "done", "result": result}:
            return RunDone(UpdateResult.from_json(result, str(path)))
        case {"status": "failed", "error": error}:
            return checked(RunFailed, error, str(path), HINT)
    raise VersionError(f"{path} is broken: it has neither a result nor an error; {HINT}")
