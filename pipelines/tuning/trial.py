"""What a study knows of a trial: its settings and what each seed of it measured."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal, TypeAlias, cast

from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.formats import FORMAT_KEY, read_format_file
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.pages.search_record import SearchRecord

FORMAT = 1
HINT = "go on with the release that wrote it, or remove the study's folder to begin it again"

Settings: TypeAlias = Mapping[str, Json]
"""Values by field; a choice of a space may be any JSON."""

Report: TypeAlias = Mapping[str, float]
"""What a trial reported last: numbers by name, its own and those of Ray Tune."""

Status = Literal["done", "stopped", "failed"]
OBJECTIVES: Mapping[str, tuple[str, int]] = {
    "plasticity": ("learning_accuracy", 1),
    "stability": ("forgetting", -1),
    "cost": ("seconds", -1),
}
"""The measure behind each objective, and its sign: every objective is to be made large."""


@dataclass(frozen=True)
class SeedResult:
    """One run of a trial's settings.

    Attributes:
        seed: Its `training.seed`.
        metrics: The stream's metrics on validation rows, which objectives are made of.
        test_metrics: The same on test rows: reported, never chosen by.
        accuracy_matrix: On validation rows, `[rows, tasks]`: the champion's row, where the trial
            started from one, then a row a stage; None where not measured.
        tasks: Names of the tasks.
        seconds: Wall time of teaching and measuring, without the worker's start.
        shared_seconds: What the shared part would have taken, had it been taught again.
        num_past: How many of the tasks the champion knew before: the first ones.
        search: What was tried and decided for each new task by its name, where rates or strengths
            were left to `auto`; see `ratchet.pipelines.training.stability_decay`.
    """

    seed: int
    metrics: Mapping[str, float | None]
    test_metrics: Mapping[str, float | None]
    accuracy_matrix: tuple[tuple[float | None, ...], ...]
    tasks: tuple[str, ...]
    seconds: float
    shared_seconds: float = 0.0
    num_past: int = 0
    search: Mapping[str, SearchRecord] = field(default_factory=dict)

    def kept(self) -> JsonObject:
        """Plain JSON values under their format number."""
        return {FORMAT_KEY: FORMAT, **asdict(self)}

    @staticmethod
    def read(path: Path) -> SeedResult:
        """What `kept` gave, from its file.

        Raises:
            VersionError: It is of another format, or broken.
        """
        return read_format_file(SeedResult, path, FORMAT, HINT)


@dataclass(frozen=True)
class Trial:
    """One point of the space.

    Attributes:
        number: Its place in the study, from 0.
        settings: Values by field.
        status: `stopped` trials were ended early, and never are on the front.
        seeds: What each seed measured; those of a failed trial may be missing.
        error: Type and message of what ended a failed trial.
    """

    number: int
    settings: Settings
    status: Status
    seeds: tuple[SeedResult, ...] = ()
    error: Mapping[str, str] | None = field(default=None)

    def values(self, measure: str) -> list[float]:
        """A measure of each seed that has it: a metric, or `seconds`."""
        found = [
            seed.seconds + seed.shared_seconds if measure == "seconds" else seed.metrics[measure]
            for seed in self.seeds
        ]
        return [value for value in found if value is not None]

    def mean(self, measure: str) -> float | None:
        """The mean of a measure over seeds, None where no seed has it."""
        values = self.values(measure)
        return fmean(values) if values else None

    def objective(self, name: str) -> float | None:
        """An objective, to be made large; see `OBJECTIVES`."""
        measure, sign = OBJECTIVES[name]
        mean = self.mean(measure)
        return None if mean is None else sign * mean

    def means(self) -> dict[str, float | None]:
        """Every measure, the mean over seeds; those on test rows under `test/`."""
        if not self.seeds:
            return {}
        found = {name: self.mean(name) for name in (*self.seeds[0].metrics, "seconds")}
        for name in self.seeds[0].test_metrics:
            values = [seed.test_metrics[name] for seed in self.seeds]
            known = [value for value in values if value is not None]
            found[f"test/{name}"] = fmean(known) if known else None
        return found

    def as_dict(self) -> JsonObject:
        """As plain JSON values."""
        return asdict(self)

    def kept(self) -> JsonObject:
        """The same under their format number."""
        return {FORMAT_KEY: FORMAT, **self.as_dict()}

    @staticmethod
    def read(path: Path) -> Trial:
        """What `kept` gave, from its file.

        Raises:
            VersionError: It is of another format, or broken.
        """
        found = read_format_file(_KeptTrial, path, FORMAT, HINT)
        settings = cast("Settings", found.settings)
        return Trial(found.number, settings, found.status, found.seeds, found.error)


@dataclass(frozen=True)
class _KeptTrial:
    """A trial as its file has it: the values of its settings may be any JSON."""

    number: int
    settings: Mapping[str, object]
    status: Status
    seeds: tuple[SeedResult, ...]
    error: Mapping[str, str] | None


@dataclass(frozen=True)
class _KeptSettings:
    settings: Mapping[str, object]


def write_settings(path: Path, settings: Settings) -> None:
    """Keep the settings of a trial that begins."""
    write_atomically(path, json.dumps({FORMAT_KEY: FORMAT, "settings": settings}))


def read_settings(path: Path) -> Settings:
    """What `write_settings` wrote.

    Raises:
        VersionError: It is of another format, or broken.
    """
    found = read_format_file(_KeptSettings, path, FORMAT, HINT)
    return cast("Settings", found.settings)
