"""Checks that the rows of a language model fit its length, once they are tokenized."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.data.prepared import HeldOut
from ratchet.pipelines.data.segments import is_raw
from ratchet.pipelines.data.stream import Stream, TaskRows
from ratchet.pipelines.errors import DataError, Problem
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.types import Task
from ratchet.pipelines.version import held_out_step

ROWS_PER_LOOK = 1024
MAX_PROBLEMS = 20


def check_lengths(
    job: UpdateJob,
    stream: Stream,
    train: Mapping[int, BatchRows],
    held_out: Mapping[int, HeldOut],
    end: int,
) -> list[str]:
    """Check that every row has something to learn within `training.max_length`.

    Args:
        job: The update.
        stream: Its new tasks, for the origins of their rows.
        train: Their training rows, tokenized, by stage.
        held_out: Held-out rows of every task, tokenized.
        end: The end-of-sequence token.

    Returns:
        A warning for each task some of whose completions were cut.

    Raises:
        DataError: Prompts as long as `training.max_length` or longer, with file and line.
    """
    problems: list[Problem] = []
    warnings: list[str] = []
    places = dict.fromkeys(train, 0)
    new = dict(zip([task.id for task in job.new], stream.tasks, strict=True))
    for task in job.tasks:
        rows = new.get(task.id)
        looks = [_held_out_look(job, task, rows, held_out[task.id])]
        if rows is not None:
            start = places[task.stage]
            places[task.stage] += len(rows.train)
            members = range(start, places[task.stage])
            looks.append(_Look(train[task.stage], members, rows.train.origins))
        found = [look.findings(job.spec.training.max_length, end) for look in looks]
        problems += [problem for own, _ in found for problem in own]
        num_cut = sum(cut for _, cut in found)
        if num_cut:
            warnings.append(
                f"{num_cut} completions of task {task.name!r} were cut at training.max_length "
                f"({job.spec.training.max_length} tokens): what follows is not learned"
            )
    if problems:
        left_out = len(problems) - MAX_PROBLEMS
        more = [Problem("", f"{left_out} more prompts are too long")] if left_out > 0 else []
        raise DataError([*problems[:MAX_PROBLEMS], *more])
    return warnings


@dataclass(frozen=True)
class _Look:
    """Some rows, and where each of them stands."""

    tokens: BatchRows
    members: range
    origins: Sequence[str]

    def findings(self, length: int, end: int) -> tuple[list[Problem], int]:
        """The rows of which nothing is left to learn, and how many lost their end."""
        full = torch.arange(self.members.start, self.members.stop)
        full = full[self.tokens.lengths[self.members.start : self.members.stop] >= length]
        problems, num_cut = [], 0
        for some in full.split(ROWS_PER_LOOK):
            inputs = self.tokens.batch(some).inputs
            learned: Tensor = inputs["completion_mask"][:, 1:].any(dim=1)
            ended = inputs["input_ids"][:, -1] == end
            for row, any_left, whole in zip(
                some.tolist(), learned.tolist(), ended.tolist(), strict=True
            ):
                if is_raw(str(self.tokens.texts[row])):
                    continue
                if not any_left:
                    problems.append(_too_long(str(self.origins[row - self.members.start]), length))
                num_cut += not whole
        return problems, num_cut


def _held_out_look(job: UpdateJob, task: Task, rows: TaskRows | None, held: HeldOut) -> _Look:
    members = range(len(held.rows))
    origins: list[str] = []
    if rows is not None:
        for split in (rows.validation, rows.test):
            if split is not None:
                step = held_out_step(len(split), job.spec.data.max_held_out_rows)
                origins += split.origins[::step]
    else:
        origins = [f"task {task.name!r} of the version, held-out row {n + 1}" for n in members]
    return _Look(held.rows, members, origins)


def _too_long(where: str, length: int) -> Problem:
    return Problem(
        where,
        f"the prompt alone takes all {length} tokens of training.max_length, so that nothing of "
        "the completion is left to learn",
        hint="Shorten the prompt, or raise training.max_length up to the model's context",
    )
