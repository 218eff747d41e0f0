"""An update whose caller registers the version: what is agreed, and what a run keeps of it.

A service that keeps the truth about versions elsewhere wants them written, and neither registered,
promoted nor mirrored. Imports no torch.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.atomic_file import write_atomically
from pipelines.config import UpdateSpec
from pipelines.registry import Registry
from pipelines.tracking import Tracker

CLAIM_FILE = "number.txt"
RESULT_FILE = "result.json"
"""The result before the version is registered."""
DONE_FILE = "done.json"
"""The result, under its last name: all else is done."""


def _go_on() -> None:
    return


@dataclass(frozen=True)
class HandOver:
    """What the caller of an update decides, where it registers the version itself.

    Attributes:
        run_name: Names the run: the same call again goes on with it, or returns what it gave.
        parent: Number of the version to start from, or None for the base model.
        before_writing: Called right before the version gets its name; raises where the caller has
            lost the right to write it.
    """

    run_name: str
    parent: int | None
    before_writing: Callable[[], None] = _go_on

    def start(self, _spec: UpdateSpec, _registry: Registry) -> int | None:
        """Number of the version to start from."""
        return self.parent

    def folder(self, runs: Path, _digest: str) -> Path:
        """The folder of the run below those of its lineage."""
        return runs / self.run_name

    def name(self, _digest: str) -> str:
        """The run's name on every machine."""
        return self.run_name

    def cut_off(
        self, spec: UpdateSpec, runs: Path, registry: Registry
    ) -> tuple[Path, dict[str, Any]] | None:
        """The run's folder and its result, where its version was written already."""
        folder = runs / self.run_name
        restore_result(folder, registry, spec.lineage, self.run_name)
        result = kept_result(folder, registry, spec.lineage)
        return None if result is None else (folder, result)

    def facts(self, tracker: Tracker) -> dict[str, Any]:
        """What the result says beside what was measured: the key of the tracked run."""
        return {"run": tracker.key}

    def make_known(self, result: Mapping[str, Any], registry: Registry, tracker: Tracker) -> None:
        """Track what the update gave; the rest is the caller's."""
        track_result(tracker, result, registry.path(result["lineage"], result["version"]))


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Keep the result of a run whose version is about to get its name."""
    write_atomically(folder / RESULT_FILE, json.dumps(result))


def kept_result(folder: Path, registry: Registry, lineage: str) -> dict[str, Any] | None:
    """What a run gave, once its version is whole; None before.

    Args:
        folder: The run's folder.
        registry: Where the version lies.
        lineage: Name of the lineage.
    """
    paths = [path for path in (folder / DONE_FILE, folder / RESULT_FILE) if path.is_file()]
    if not paths:
        return None
    result: dict[str, Any] = json.loads(paths[0].read_text(encoding="utf-8"))
    return result if result["version"] in registry.versions(lineage) else None


def restore_result(folder: Path, registry: Registry, lineage: str, run: str) -> None:
    """Bring here what a run on another machine kept, once its version is whole.

    Args:
        folder: The run's folder here; one that holds a result is left as it is.
        registry: Says in which store to look; a home that has none kept everything itself.
        lineage: Name of the lineage.
        run: The run's name in the store.
    """
    address = registry.run_address(lineage, run)
    if address is None or any((folder / name).is_file() for name in (RESULT_FILE, DONE_FILE)):
        return
    result = address.open().result()
    if result is None or result["version"] not in registry.versions(lineage):
        return
    version = registry.fetched(lineage, result["version"])
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CLAIM_FILE, str(result["version"]))
    write_result(folder, result | {"report": str(version / "report.html")})


def track_result(tracker: Tracker, result: Mapping[str, Any], target: Path) -> None:
    """Track what an update gave, and end its tracked run.

    Args:
        tracker: Of the run.
        result: What it gave.
        target: The folder of its version.
    """
    scores = result.get("main_scores", ["accuracy"])
    tracker.log_matrix(result["accuracy_matrix"], result["tasks"], scores)
    tracker.log_phases(None, result["seconds"], None)
    tracker.log_file(target / "report.html")
    tracker.log_file(target / "manifest.json", "version")
    name = f"{result['lineage']}@{result['version']}"
    tracker.set_tags({"ratchet.version": name, "mlflow.runName": name})
    tracker.finish(result["metrics"])
