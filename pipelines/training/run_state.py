"""Where an unfinished run stands, and what it has measured: the part of a checkpoint in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from ratchet.pipelines.evaluation.instruments import Right
from ratchet.pipelines.evaluation.learned_answers import LearnedAnswers
from ratchet.pipelines.evaluation.scores import Scores
from ratchet.pipelines.files.formats import FORMAT_KEY, read_format_file
from ratchet.pipelines.pages.search_record import SearchRecord
from ratchet.pipelines.training.loop import Position

FORMAT = 2
HINT = "go on with the release that wrote it, or remove the run's folder to begin it again"


@dataclass(frozen=True)
class RunState:
    """Where a run stands.

    Attributes:
        stages_done: Stages that have ended.
        in_stage: Whether another one has begun.
        position: The next step to take in it.
        schedule: Position of the learning rate's schedule.
        scores: What was measured after each stage.
        costs: What was counted by task.
        baseline: Scores of the untrained start by task.
        search: What was tried and decided by task.
        right: Which test rows were right after each stage.
        learned: What validation rows were answered right after the stage that taught their task.
        held: How validation rows of every task were answered with their task id after the last
            stage that ended, packed.
        sharded: What `describe_shards` said of the tensors that lie in shards.
    """

    stages_done: int
    in_stage: bool
    position: Position
    schedule: int
    scores: tuple[Scores, ...]
    costs: Mapping[str, Mapping[str, float]]
    baseline: Scores
    search: Mapping[str, SearchRecord]
    right: tuple[Right, ...]
    learned: Mapping[str, LearnedAnswers]
    held: Mapping[str, str]
    sharded: Mapping[str, tuple[str, str]]


def write_run_state(path: Path, state: RunState) -> None:
    """Write the state into a file of a checkpoint that is not named yet."""
    path.write_text(json.dumps({FORMAT_KEY: FORMAT, **asdict(state)}), encoding="utf-8")


def read_run_state(path: Path) -> RunState:
    """What `write_run_state` wrote.

    Raises:
        VersionError: The file is of another format, or broken.
    """
    return read_format_file(RunState, path, FORMAT, HINT)
