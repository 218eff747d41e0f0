"""Contexts as methods see them, over problems small enough to be worked out by hand."""

from contextlib import nullcontext

import torch
from torch import nn

from ratchet.pipelines.data.tokens import collate_rows
from ratchet.pipelines.methods.context import TaskContext
from ratchet.pipelines.models.classifier import Classifier
from ratchet.pipelines.models.heads import Heads
from ratchet.pipelines.training.workers import SingleWorker
from ratchet.pipelines.types import Batch, Output, Task


class Logistic(nn.Module):
    """A classifier over numbers: features are the inputs, and a head a task lies on them."""

    def __init__(self, dim, layout="growing"):
        super().__init__()
        self.backbone = nn.Dropout(0.5)
        self.heads = Heads(dim, layout)

    @property
    def head(self):
        return self.heads

    device = torch.device("cpu")
    is_sharded = False
    kind = "classifier"

    def forward(self, inputs):
        features = self.backbone(inputs["input_ids"].float())
        return Output(logits=self.heads(features), features=features)

    def features(self, inputs):
        return self.backbone(inputs["input_ids"].float())

    restricted = Classifier.restricted
    row_losses = Classifier.row_losses
    log_likelihood = Classifier.log_likelihood

    def trainable(self):
        return {name: p for name, p in self.named_parameters() if p.requires_grad}


def batch_of(inputs, targets, task_ids=None, first_row=0):
    """Rows of numbers [rows, dim] with their classes."""
    targets = torch.as_tensor(targets)
    num_rows = len(targets)
    inputs = torch.as_tensor(inputs, dtype=torch.float32).reshape(num_rows, -1)
    return Batch(
        inputs={"input_ids": inputs, "attention_mask": torch.ones(num_rows, 1)},
        targets=targets,
        weights=torch.ones(num_rows),
        task_ids=torch.zeros(num_rows, dtype=torch.int64)
        if task_ids is None
        else torch.as_tensor(task_ids),
        rows=torch.arange(first_row, first_row + num_rows),
        parts={"new": slice(0, num_rows)},
    )


class RankOf(SingleWorker):
    """A rank of a group that never has to speak."""

    def __init__(self, rank, world_size):
        self.rank, self.world_size = rank, world_size


def context_of(model, batches, tasks, seen=(), workers=None, texts=None):
    """The context of a stage whose rows are these batches; a text is the row's number."""
    return TaskContext(
        model=model,
        tasks=tuple(tasks),
        seen=tuple(seen),
        workers=workers or SingleWorker(),
        generator=torch.Generator().manual_seed(0),
        batches=lambda: iter(batches),
        validation=lambda _task_id: iter(()),
        texts=texts or (lambda rows: [str(row) for row in rows]),
        tokenize=lambda wanted: [torch.tensor([int(text)]) for text in wanted],
        batch_of=lambda tokens, targets, task_ids: collate_rows(tokens, targets, task_ids, "cpu"),
        autocast=nullcontext,
    )


TASK = Task(0, "first", (0, 1), 0)
NEXT = Task(1, "second", (2, 3), 1)
