"""What a run keeps of its result, so that it ends the same after an interruption."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.registry.s3.runs import open_run
from ratchet.pipelines.update.result import UpdateResult

CLAIM_FILE = "number.txt"


RESULT_FILE = "result.json"
"""The result before the version is registered."""


DONE_FILE = "done.json"
"""The result, under its last name: all else is done."""


def write_result(folder: Path, result: UpdateResult) -> None:
    """Keep the result of a run whose version is about to get its name."""
    write_atomically(folder / RESULT_FILE, json.dumps(result.kept()))


def read_result(path: Path) -> UpdateResult:
    """The result that a run keeps in a file.

    Raises:
        VersionError: It is of another format, or broken.
    """
    return UpdateResult.from_kept(json.loads(path.read_text(encoding="utf-8")), str(path))


def kept_result(folder: Path, registry: Registry, lineage: str) -> UpdateResult | None:
    """What a run gave, once its version is whole; None before.

    Args:
        folder: The run's folder.
        registry: Where the version lies.
        lineage: Name of the lineage.
    """
    paths = [path for path in (folder / DONE_FILE, folder / RESULT_FILE) if path.is_file()]
    if not paths:
        return None
    result = read_result(paths[0])
    return result if result.version in registry.versions(lineage) else None


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
    raw = open_run(address).result()
    if raw is None:
        return
    result = UpdateResult.from_kept(raw, f"{address.run}, as the store keeps it,")
    if result.version not in registry.versions(lineage):
        return
    version = registry.fetched(lineage, result.version)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / CLAIM_FILE, str(result.version))
    write_result(folder, replace(result, report=str(version / "report.html")))
