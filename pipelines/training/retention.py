"""Whether the pretrained ability survived: measured on general data, before and after.

A classifier by a probe on labelled rows, a language model by its perplexity on raw text.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ratchet.pipelines.data.recipes import LanguageData
from ratchet.pipelines.data.rows import Rows
from ratchet.pipelines.data.sources import read_rows
from ratchet.pipelines.data.tokens import TokenizedRows, tokenize
from ratchet.pipelines.errors import DataError, Problem, SpecError
from ratchet.pipelines.evaluation.evaluator import Evaluator
from ratchet.pipelines.evaluation.instruments import Retention
from ratchet.pipelines.evaluation.language import LanguageEvaluator
from ratchet.pipelines.evaluation.probe import LinearProbe, ProbeRows
from ratchet.pipelines.models.causal_lm import CausalLM
from ratchet.pipelines.models.classifier import Classifier
from ratchet.pipelines.models.pooling import pool
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.update_spec import RetentionSpec, UpdateSpec
from ratchet.pipelines.types import Task

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

    def measure(self, evaluator: Evaluator, task: Task) -> Retention:
        """Accuracy of a linear probe, of the untouched base and of the taught model.

        Every rank must call it.

        Args:
            evaluator: Computes features.
            task: The task whose own parameters are active for the taught model, where there are
                such.
        """
        model = evaluator.model
        assert isinstance(model, Classifier), "language models have no probe"

        def base(inputs: Mapping[str, Tensor]) -> Tensor:
            if model.reads_base_features:
                return model.base_features(inputs)
            states = model.base_states(inputs)
            return pool(states[-1], inputs["attention_mask"], model.pooling)

        before = [evaluator.compute(own, base) for own in (self.train, self.test)]
        after = [evaluator.features_of(task.id, own) for own in (self.train, self.test)]
        return Retention(_probe(before[0], before[1], self), _probe(after[0], after[1], self))


@dataclass(frozen=True)
class GeneralText:
    """Raw text that no task teaches, in blocks as those of a task.

    Attributes:
        test: The blocks.
    """

    test: TokenizedRows

    @staticmethod
    def read(spec: UpdateSpec, wanted: RetentionSpec, model: CausalLM) -> GeneralText:
        """Read the text that a spec names, cut it into blocks and tokenize them.

        Raises:
            SpecError: Training rows are named, which perplexity has no use for.
            DataError: With every problem found in the files, or where they hold nothing to predict.
        """
        if wanted.train is not None:
            reason = "a language model's retention is its perplexity on `test`; nothing is trained"
            raise SpecError(
                [Problem("evaluation.retention.train", reason, wanted.train, "Remove it")]
            )
        length = spec.training.max_length
        language = LanguageData(model.tokenizer, length, format="text")
        found, problems = read_rows(wanted.test, spec.columns, language=language)
        nothing = [0] * len(found.texts)
        rows = tokenize(found.texts, nothing, nothing, model.tokenizer, length, marked=True)
        if not problems and not bool((rows.lengths > 1).any()):
            problems = [Problem(wanted.test, "holds no text of two tokens or more")]
        if problems:
            raise DataError(problems)
        return GeneralText(rows)

    def measure(self, evaluator: Evaluator, task: Task) -> Retention:
        """Perplexity of the untouched base and of the taught model; arguments as above."""
        assert isinstance(evaluator, LanguageEvaluator), "classifiers predict no tokens"
        before = evaluator.perplexity(self.test, of_base=True)
        evaluator.stack.activate(evaluator.model, task.id)
        return Retention(before, evaluator.perplexity(self.test))


def general_data(spec: UpdateSpec, model: TaughtModel) -> GeneralRows | GeneralText | None:
    """What a spec's `evaluation.retention` names, read for the kind of a model.

    Raises:
        SpecError: The section does not fit the kind of model.
        DataError: With every problem found in the files.
    """
    wanted = spec.evaluation.retention
    if wanted is None:
        return None
    if isinstance(model, CausalLM):
        return GeneralText.read(spec, wanted, model)
    assert isinstance(model, Classifier), "there are two kinds of model"
    return GeneralRows.read(spec, wanted, model)


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
