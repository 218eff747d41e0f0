"""The end of a run: what is registered, tracked and kept; one cut off there is ended later."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.pipelines.tracking.tracker import Tracker
from ratchet.pipelines.update.kept_result import (
    CLAIM_FILE,
    DONE_FILE,
    RESULT_FILE,
    kept_result,
    read_result,
    restore_result,
)
from ratchet.pipelines.update.mirror import discard_run
from ratchet.pipelines.update.plan import digest_from
from ratchet.pipelines.update.result import UpdateResult
from ratchet.pipelines.update.writing import VERDICT_FILE


class Registering:
    """How a run starts and ends that registers its version itself: on top of the champion."""

    def start(self, spec: UpdateSpec, registry: Registry) -> int | None:
        """Number of the version to start from, or None for the base model."""
        return registry.champion(spec.lineage)

    def folder(self, runs: Path, digest: str) -> Path:
        """The folder of an unfinished run of this digest, or of a new one."""
        return open_attempt(runs, digest)

    def name(self, digest: str) -> str:
        """The run's name on every machine: whichever attempt it is here."""
        return digest

    def cut_off(
        self, spec: UpdateSpec, runs: Path, registry: Registry
    ) -> tuple[Path, UpdateResult] | None:
        """The folder and the result of this run, where it was cut off after its promotion."""
        return cut_off_after_promotion(spec, runs, registry)

    def before_writing(self) -> None:
        """Called right before the version gets its name."""

    def run_key(self, _tracker: Tracker) -> str | None:
        """Which tracked run the result names: none, it is registered with the version."""
        return None

    def make_known(self, result: UpdateResult, registry: Registry, tracker: Tracker) -> None:
        """Make the version of a result challenger, or champion, and track it."""
        lineage, number = result.lineage, result.version
        if registry.champion(lineage) != number:  # else it was promoted before an interruption
            registry.register(lineage, number, result.metrics, tracker.key)
        if result.promoted:
            parent = registry.manifest(lineage, number).parent
            registry.promote_over(lineage, number, parent)
        track_result(tracker, result, registry.path(lineage, number))


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


def end_run(folder: Path) -> None:
    """Mark a run as done, and remove what only going on with it would need."""
    if (folder / RESULT_FILE).is_file():  # else it was marked before an interruption
        (folder / RESULT_FILE).replace(folder / DONE_FILE)
    for leftover in ("checkpoints", "data"):
        shutil.rmtree(folder / leftover, ignore_errors=True)


def finish_cut_off(
    folder: Path,
    result: UpdateResult,
    end: Registering | HandOver,
    registry: Registry,
    tracked: Callable[[Path], AbstractContextManager[Tracker]],
) -> UpdateResult:
    """End a run that was cut off after its version was written.

    Args:
        folder: The run's folder.
        result: What it kept.
        end: How it ends.
        registry: The versions.
        tracked: Gives the tracker of the run in a folder.

    Returns:
        The result.
    """
    if not (folder / DONE_FILE).exists():
        with tracked(folder) as tracker:
            end.make_known(result, registry, tracker)
        discard_run(registry, result.lineage, end.name(folder.name.partition("-")[0]))
    end_run(folder)
    return result


def cut_off_after_promotion(
    spec: UpdateSpec, runs: Path, registry: Registry
) -> tuple[Path, UpdateResult] | None:
    """The run of this spec that made the champion and was cut off before its end, if there is one.

    What it taught is known to the lineage since, so that it cannot be planned again.

    Returns:
        Its folder, and the result that it kept.
    """
    champion = registry.champion(spec.lineage)
    if champion is None:
        return None
    start = registry.manifest(spec.lineage, champion).parent
    digest = digest_from(spec, start)
    folder = open_attempt(runs, digest)
    restore_result(folder, registry, spec.lineage, digest)
    result = folder / RESULT_FILE
    if not result.is_file() or int((folder / CLAIM_FILE).read_text("utf-8")) != champion:
        return None
    return folder, read_result(result)


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
    ) -> tuple[Path, UpdateResult] | None:
        """The run's folder and its result, where its version was written already."""
        folder = runs / self.run_name
        restore_result(folder, registry, spec.lineage, self.run_name)
        result = kept_result(folder, registry, spec.lineage)
        return None if result is None else (folder, result)

    def run_key(self, tracker: Tracker) -> str | None:
        """Which tracked run the result names, so that the caller registers it."""
        return tracker.key

    def make_known(self, result: UpdateResult, registry: Registry, tracker: Tracker) -> None:
        """Track what the update gave; the rest is the caller's."""
        track_result(tracker, result, registry.path(result.lineage, result.version))


def track_result(tracker: Tracker, result: UpdateResult, target: Path) -> None:
    """Track what an update gave, and end its tracked run.

    Args:
        tracker: Of the run.
        result: What it gave.
        target: The folder of its version.
    """
    scores = ("accuracy",) if result.language is None else result.language.main_scores
    tracker.log_matrix(result.accuracy_matrix or [], result.tasks, scores)
    tracker.log_phases(None, result.seconds, None)
    tracker.log_file(target / "report.html")
    tracker.log_file(target / "manifest.json", "version")
    tracker.log_file(target / VERDICT_FILE)
    name = f"{result.lineage}@{result.version}"
    tracker.set_tags({"ratchet.version": name, "mlflow.runName": name})
    tracker.finish(result.metrics)
