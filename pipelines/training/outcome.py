"""The outcome of an update: what its workers leave for the driver, which judges and writes it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ratchet.pipelines.evaluation.calibration import Calibration
from ratchet.pipelines.evaluation.instruments import Findings, Right
from ratchet.pipelines.evaluation.learned_answers import LearnedAnswers
from ratchet.pipelines.evaluation.scores import Scores
from ratchet.pipelines.files.atomic_file import write_atomically
from ratchet.pipelines.files.formats import FORMAT_KEY, read_format, read_format_file
from ratchet.pipelines.files.json_value import Json
from ratchet.pipelines.pages.search_record import SearchRecord
from ratchet.pipelines.report.data import ColumnSizes

OUTCOME_FILE = "outcome.json"
FORMAT = 2
HINT = "go on with the release that taught it, or remove the run's folder to teach it again"


@dataclass(frozen=True)
class Outcome:
    """What the workers of an update measured and learned, beside the weights.

    Attributes:
        scores: Of every task measured, by its name; one mapping a stage of the update.
        costs: What was counted by task: `..._seconds` of its phases, and sizes after its stage.
        before: `total_parameters` and `stored_bytes` before the first stage.
        columns: Parameters of each task's column by its name; empty without columns.
        search: What was tried and decided by task, where it was left to `auto`.
        strengths: The strengths found last, by method.
        baseline: Scores of the untrained start by task, where they were measured.
        instruments: What the instruments found that a spec's `evaluation` asks for.
        right: Which test rows were right after each stage; see `Instruments.right`.
        learned: What the validation rows of each task of the update were answered right after the
            stage that taught it, by its name.
        held: How validation rows of every task are answered with their task id at the end, packed
            by `flips.pack_scores`, by its name.
        calibration: Which score is in scope, and what the router does with test rows.
        precision: What it was taught in.
        base_sha256: SHA-256 of the base weights.
        total_parameters: Parameters of the model after the last stage.
    """

    scores: tuple[Scores, ...]
    costs: Mapping[str, Mapping[str, float]]
    before: Mapping[str, float]
    columns: Mapping[str, ColumnSizes]
    search: Mapping[str, SearchRecord]
    strengths: Mapping[str, float]
    baseline: Scores
    instruments: Findings
    right: tuple[Right, ...]
    learned: Mapping[str, LearnedAnswers]
    held: Mapping[str, str]
    calibration: Calibration
    precision: str
    base_sha256: str
    total_parameters: int

    def to_json(self) -> dict[str, Json]:
        """Plain JSON values, the format number first."""
        return {FORMAT_KEY: FORMAT, **asdict(self), "instruments": self.instruments.to_json()}

    @staticmethod
    def from_json(raw: Json) -> Outcome:
        """The outcome that `to_json` wrote.

        Raises:
            VersionError: It is of another format, or broken.
        """
        return read_format(Outcome, raw, FORMAT, OUTCOME_FILE, HINT)


def has_outcome(folder: Path) -> bool:
    """Whether the workers of a run have written theirs, so that nothing is left to teach."""
    return (folder / OUTCOME_FILE).is_file()


def write_outcome(folder: Path, outcome: Outcome) -> None:
    """Write the outcome of a run into its folder."""
    write_atomically(folder / OUTCOME_FILE, json.dumps(outcome.to_json()))


def read_outcome(folder: Path) -> Outcome:
    """The outcome of the run in a folder.

    Raises:
        VersionError: It is of another format, or broken.
    """
    return read_format_file(Outcome, folder / OUTCOME_FILE, FORMAT, HINT)
