"""The end of a run: what is registered, tracked and kept; one cut off there is ended later."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipelines.atomic_file import write_atomically
from pipelines.config import UpdateSpec
from pipelines.manifest import read_manifest
from pipelines.plan import digest_from
from pipelines.registry import Registry
from pipelines.stale_run import CLAIM_FILE, RESULT_FILE
from pipelines.tracking import Tracker

DONE_FILE = "done.json"
"""The result, under its last name: all else is done."""


def open_attempt(runs: Path, digest: str) -> Path:
    """The folder of the unfinished run of a digest, or of a new one, which is not made.

    Args:
        runs: Where the runs of the lineage lie.
        digest: Of the spec and the version that it starts from.
    """
    attempt = 1
    while True:
        suffix = "" if attempt == 1 else f"-{attempt}"
        folder = runs / f"{digest}{suffix}"
        if not (folder / DONE_FILE).exists():
            return folder
        attempt += 1


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Keep the result of a run that is about to register its version."""
    write_atomically(folder / RESULT_FILE, json.dumps(result))


def register(result: Mapping[str, Any], registry: Registry, tracker: Tracker) -> None:
    """Make the version of a result known: challenger, or champion, and tracked."""
    lineage, number = result["lineage"], result["version"]
    if registry.champion(lineage) != number:  # else it was promoted before an interruption
        registry.register(lineage, number, result["metrics"], tracker.key)
    if result["promoted"]:
        registry.promote(lineage, number)
    _track(tracker, result, registry.path(lineage, number))


def _track(tracker: Tracker, result: Mapping[str, Any], target: Path) -> None:
    scores = result.get("main_scores", ["accuracy"])
    tracker.log_matrix(result["accuracy_matrix"], result["tasks"], scores)
    tracker.log_phases(None, result["seconds"], None)
    tracker.log_file(target / "report.html")
    tracker.log_file(target / "manifest.json", "version")
    name = f"{result['lineage']}@{result['version']}"
    tracker.set_tags({"ratchet.version": name, "mlflow.runName": name})
    tracker.finish(result["metrics"])


def end_run(folder: Path) -> None:
    """Mark a run as done, and remove what only going on with it would need."""
    (folder / RESULT_FILE).replace(folder / DONE_FILE)
    for leftover in ("checkpoints", "data"):
        shutil.rmtree(folder / leftover, ignore_errors=True)


def cut_off_after_promotion(
    spec: UpdateSpec, runs: Path, registry: Registry
) -> tuple[Path, dict[str, Any]] | None:
    """The run of this spec that made the champion and was cut off before its end, if there is one.

    What it taught is known to the lineage since, so that it cannot be planned again.

    Returns:
        Its folder, and the result that it kept.
    """
    champion = registry.champion(spec.lineage)
    if champion is None:
        return None
    start = read_manifest(registry.path(spec.lineage, champion)).parent
    folder = open_attempt(runs, digest_from(spec, start))
    result = folder / RESULT_FILE
    if not result.is_file() or int((folder / CLAIM_FILE).read_text("utf-8")) != champion:
        return None
    return folder, json.loads(result.read_text("utf-8"))
