"""The context of a stage, as methods see it, made of what a worker holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch

from ratchet.pipelines.data.prepared import PreparedData
from ratchet.pipelines.data.tokens import collate_rows, tokens_of
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.training.job import UpdateJob
from ratchet.pipelines.training.loop import shard_batches
from ratchet.pipelines.training.workers import AnyWorkers
from ratchet.pipelines.types import Batch, Task

VALIDATION_ROWS = 64


def stage_context(
    job: UpdateJob,
    data: PreparedData,
    model: TaughtModel,
    workers: AnyWorkers,
    generator: torch.Generator,
    autocast: Callable[[], Any],
    stage: tuple[Task, ...],
) -> TaskContext:
    """The context of a stage at its first step.

    Args:
        job: The update.
        data: Its rows.
        model: The model that is taught.
        workers: The worker group.
        generator: This rank's random numbers.
        autocast: Precision of the forward pass.
        stage: The tasks that are taught together.
    """
    rows, device = data.train[stage[0].stage], model.device
    max_length = job.spec.training.max_length

    def validation(task_id: int) -> Iterator[Batch]:
        held = data.held_out[task_id]
        for start in range(0, held.num_validation, VALIDATION_ROWS):
            stop = min(start + VALIDATION_ROWS, held.num_validation)
            yield held.rows.batch(range(start, stop), device)

    return TaskContext(
        model=model,
        tasks=stage,
        seen=tuple(task for task in job.tasks if task.id < stage[0].id),
        workers=workers,
        generator=generator,
        batches=lambda: shard_batches(rows, workers, device, even=model.is_sharded),
        validation=validation,
        texts=lambda index: [rows.texts[place] for place in index],
        tokenize=lambda texts: tokens_of(texts, model.tokenizer, max_length, rows.marked),
        batch_of=lambda tokens, targets, task_ids: collate_rows(
            tokens, targets, task_ids, device, rows.marked
        ),
        autocast=autocast,
        max_length=max_length,
    )
