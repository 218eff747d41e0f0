"""Whether the pretrained ability survived: a probe on general data, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from pipelines.config import RetentionSpec, UpdateSpec
from pipelines.data.rows import Rows
from pipelines.data.sources import read_rows
from pipelines.data.tokens import TokenizedRows, tokenize
from pipelines.errors import DataError, Problem, SpecError
from pipelines.evaluation.evaluator import Evaluator
from pipelines.evaluation.probe import LinearProbe, ProbeRows
from pipelines.models.classifier import Classifier
from pipelines.models.pooling import pool
from pipelines.types import Task

VALIDATION_EVERY = 5


@dataclass(frozen=True)
class GeneralRows:
    """Labelled rows that no task teaches.

    Attributes:
        train: What a probe learns from; every fifth row chooses its ridge.
        test: What it is measured on.
    """

    train: TokenizedRows
    test: TokenizedRows

    @staticmethod
    def read(spec: UpdateSpec, wanted: RetentionSpec, model: Classifier) -> GeneralRows:
        """Read and tokenize the rows that a spec names.

        Raises:
            SpecError: No training rows are named.
            DataError: With every problem found in the files.
        """
        if wanted.train is None:
            reason = "a classifier's retention is measured by a probe, which needs labelled rows"
            raise SpecError([Problem("evaluation.retention.train", reason, None, "Name a file")])
        found = [read_rows(path, spec.columns) for path in (wanted.train, wanted.test)]
        problems = [problem for _, own in found for problem in own]
        train, test = (rows for rows, _ in found)
        labels = sorted(set(train.labels))
        if odd := sorted(set(test.labels) - set(labels)):
            problems.append(Problem(wanted.test, "a label without training rows", odd[0]))
        if problems:
            raise DataError(problems)
        numbers = {label: index for index, label in enumerate(labels)}
        length = spec.training.max_length
        return GeneralRows(
            _tokenized(train, numbers, model, length), _tokenized(test, numbers, model, length)
        )


def retention_of(evaluator: Evaluator, rows: GeneralRows, task: Task) -> dict[str, float]:
    """Accuracy of a linear probe on general rows, of the untouched base and of the taught model.

    Every rank must call it.

    Args:
        evaluator: Computes features.
        rows: The general rows.
        task: The task whose own parameters are active for the taught model, where there are such.
    """
    model = evaluator.model
    assert isinstance(model, Classifier), "language models have no probe"

    def base(inputs: Mapping[str, Tensor]) -> Tensor:
        if model.reads_base_features:
            return model.base_features(inputs)
        states = model.base_states(inputs)
        return pool(states[-1], inputs["attention_mask"], model.pooling)

    before = [evaluator.compute(own, base) for own in (rows.train, rows.test)]
    after = [evaluator.features_of(task.id, own) for own in (rows.train, rows.test)]
    return {
        "before": _probe(before[0], before[1], rows),
        "after": _probe(after[0], after[1], rows),
    }


def _probe(train: Tensor, test: Tensor, rows: GeneralRows) -> float:
    chooses = torch.arange(len(train)) % VALIDATION_EVERY == VALIDATION_EVERY - 1
    targets = rows.train.targets
    probe = LinearProbe(
        ProbeRows(train[~chooses], targets[~chooses]), ProbeRows(train[chooses], targets[chooses])
    )
    return probe.accuracy(ProbeRows(test, rows.test.targets))


def _tokenized(
    rows: Rows, numbers: Mapping[str, int], model: Classifier, length: int
) -> TokenizedRows:
    targets = [numbers[label] for label in rows.labels]
    return tokenize(rows.texts, targets, [0] * len(targets), model.tokenizer, length)
