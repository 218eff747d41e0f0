"""Measures the tasks of a language model: closed answers, generated ones, and raw text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ratchet.pipelines.data.answers import is_open
from ratchet.pipelines.data.batching import BatchRows
from ratchet.pipelines.data.segments import is_raw, last_completion, plain_tokens
from ratchet.pipelines.data.tokens import TokenizedRows, collate_rows
from ratchet.pipelines.evaluation.evaluator import EVALUATION_ROWS, Evaluator, TaskScores
from ratchet.pipelines.evaluation.overlap import rouge_l
from ratchet.pipelines.methods.base import MethodStack
from ratchet.pipelines.models.causal_lm import CausalLM, learned_tokens, token_log_likelihoods
from ratchet.pipelines.models.prototype_router import Router
from ratchet.pipelines.models.taught_model import TaughtModel
from ratchet.pipelines.spec.update_spec import EvaluationSpec
from ratchet.pipelines.types import Task, Workers

MAX_EXPONENT = 80.0
"""Perplexities end here, so that they stay numbers in JSON."""


class LanguageEvaluator(Evaluator):
    """Evaluates a language model as the stream goes on; see `Evaluator`.

    The score in [0, 1] that matrices and gate use is, by the kind of a task:
    closed answers: whether the right answer is the most likely one, end of text included, among the
    task's answers (own) or the answers of all closed tasks seen (all). The likelihood is not
    divided by the length: with its end each answer is a different text, and the sum is the
    probability that the model gives that text.
    Open answers: whether the greedy continuation is the completion, but for space around it.
    Raw text: the share of tokens that the model would have named.

    Attributes:
        max_new_tokens: Tokens that are generated for a row, at most.
        max_generated_rows: Rows of a split for which text is generated, at most, evenly spread.
    """

    max_new_tokens: int = 64
    max_generated_rows: int = 200

    @property
    def routes(self) -> bool:
        """Whether a task must be inferred to know whose parts answer."""
        return self.without_task_id and self.model.has_task_adapters

    def perplexity(self, rows: BatchRows, of_base: bool = False) -> float:
        """Perplexity over the learned tokens of any rows, all ranks together.

        Args:
            rows: The rows.
            of_base: Whether the untouched base is measured, and not the model as it is active now.
        """
        count = self._count_base_tokens if of_base else self._count_tokens
        return _of_tokens(self._forward(rows, count))["perplexity"]

    @property
    def serves_auto(self) -> bool:
        """Language models are asked by task."""
        return False

    def _known(self, task: Task, rows: TokenizedRows) -> float:
        """Accuracy of closed answers; else 1 / perplexity, a right token's mean probability.

        Generated answers are not looked at: few are exactly right while a task is being learned.
        """
        self.stack.activate(self.model, task.id)
        if self._is_closed(task):
            places = torch.arange(len(rows))
            return _mean(self._most_likely(task, places, task.class_ids, None))
        return 1.0 / self.perplexity(rows)

    def _score(
        self, task: Task, seen: Sequence[Task], router: Router | None, fingerprint: str
    ) -> TaskScores:
        self.stack.activate(self.model, task.id)
        tokens = self._token_scores(task, fingerprint)
        rows = self._scored_rows(task)
        own, overlap = self._answered(task, rows, task.class_ids, fingerprint)
        everything: Tensor | None = None
        if router is not None:
            everything = self._routed_rows(task, seen, rows, own, router)
        elif self.without_task_id:
            everything = own
            if self._is_closed(task):
                known = [c for other in seen if self._is_closed(other) for c in other.class_ids]
                everything = torch.zeros(len(rows))
                if known:
                    everything = self._most_likely(task, rows, known, fingerprint)
        held = self.held_out[task.id]
        chosen = rows < held.num_validation
        reported = ~chosen if bool((~chosen).any()) else chosen
        self.held[task.id] = own[chosen]
        self.right[task.id] = (own[reported], None if everything is None else everything[reported])
        more: dict[str, float] = {}
        splits = {"validation": (held.validation, chosen), "test": (held.test, reported)}
        for split, (place, members) in splits.items():
            more |= {f"{split}_{name}": v for name, v in _of_tokens(tokens[place]).items()}
            if overlap is not None:
                more[f"{split}_exact_match"] = _mean(own[members])
                more[f"{split}_rouge_l"] = _mean(overlap[members])
        return TaskScores(
            validation_own=_mean(own[chosen]),
            validation_all=None if everything is None else _mean(everything[chosen]),
            test_own=_mean(own[reported]),
            test_all=None if everything is None else _mean(everything[reported]),
            num_validation=int(chosen.sum()),
            more=more,
        )

    @property
    def _decoder(self) -> CausalLM:
        assert isinstance(self.model, CausalLM), "other models have another evaluator"
        return self.model

    def _is_closed(self, task: Task) -> bool:
        return not is_open(task.name, [self.labels[index] for index in task.class_ids])

    def _is_raw(self, task: Task) -> bool:
        return is_raw(self.held_out[task.id].rows.texts[0])

    def _scored_rows(self, task: Task) -> Tensor:
        """The rows behind the main score: all, or where text is generated some of each split."""
        held = self.held_out[task.id]
        places = torch.arange(len(held.rows))
        if self._is_closed(task) or self._is_raw(task):
            return places
        splits = places[: held.num_validation], places[held.num_validation :]
        return torch.cat([_spread(split, self.max_generated_rows) for split in splits])

    def _token_scores(self, task: Task, fingerprint: str) -> Tensor:
        """Log-likelihood, hits and number of the learned tokens of each row, [rows, 3]."""
        known = self._features.get(task.id)
        if known is None or known[0] != fingerprint:
            found = self._forward(self.held_out[task.id].rows, self._count_tokens)
            self._features[task.id] = (fingerprint, found)
        return self._features[task.id][1]

    def _count_tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return _counted(self.model(inputs).logits, inputs)

    def _count_base_tokens(self, inputs: Mapping[str, Tensor]) -> Tensor:
        return _counted(self._decoder.base_logits(inputs), inputs)

    def _answered(
        self, task: Task, rows: Tensor, class_ids: Sequence[int], fingerprint: str | None
    ) -> tuple[Tensor, Tensor | None]:
        """Whether each row is answered rightly, and for generated text its overlap, [rows]."""
        if self._is_closed(task):
            return self._most_likely(task, rows, class_ids, fingerprint), None
        if self._is_raw(task):
            tokens = self._token_scores(task, fingerprint or "")
            return tokens[rows, 1] / tokens[rows, 2].clamp(min=1), None
        return self._generated(task, rows, fingerprint)

    # Closed answers

    def _most_likely(
        self, task: Task, rows: Tensor, class_ids: Sequence[int], fingerprint: str | None
    ) -> Tensor:
        """Whether the right answer is the likeliest of some, [rows], 0 or 1."""
        index = torch.tensor(sorted({int(self._label_ids[c]) for c in class_ids}))
        likelihoods = self._likelihoods(task, rows, index.tolist(), fingerprint)
        targets = self._label_ids[self.held_out[task.id].rows.targets[rows]]
        return (index[likelihoods.argmax(dim=1)] == targets).float()

    def _likelihoods(
        self, task: Task, rows: Tensor, answers: Sequence[int], fingerprint: str | None
    ) -> Tensor:
        """Log-likelihood of each answer after each row's prompt, [rows, answers]."""
        kept_for, kept = self._known_answers.get(task.id, (None, {}))
        if fingerprint is None or kept_for != fingerprint:
            kept = {}
        missing = [answer for answer in answers if answer not in kept]
        if missing:
            found = self._measured(task, rows, missing)
            kept = kept | dict(zip(missing, found.unbind(1), strict=True))
        if fingerprint is not None:
            self._known_answers[task.id] = (fingerprint, kept)
        return torch.stack([kept[answer] for answer in answers], dim=1)

    def _measured(self, task: Task, rows: Tensor, answers: Sequence[int]) -> Tensor:
        """As `_likelihoods`, each rank looking at its share of the rows."""
        table = torch.zeros(len(rows), len(answers), device=self.model.device)
        mine = range(self.workers.rank, len(rows), self.workers.world_size)
        tokens = [self._answer_tokens[answer] for answer in answers]
        longest = max(map(len, tokens))
        pairs = [(place, column) for place in mine for column in range(len(answers))]
        for start in range(0, self._passes(mine, rows) * len(answers), EVALUATION_ROWS):
            some = pairs[start : start + EVALUATION_ROWS]
            texts = []
            for place, column in some:
                prompt = self._prompt(task, int(rows[place]), longest)
                texts.append(torch.cat([-1 - prompt, tokens[column]]))
            ids = torch.zeros(len(some), dtype=torch.int64)
            batch = collate_rows(texts, ids, ids, self.model.device, marked=True)
            with torch.no_grad(), self.autocast():
                logits = self.model(batch.inputs).logits
            found = token_log_likelihoods(logits, batch.inputs).sum(1)
            for (place, column), value in zip(some, found, strict=True):
                table[place, column] = value
        self.workers.sum([table])
        return table.cpu()

    @cached_property
    def _answer_tokens(self) -> list[Tensor]:
        """The tokens of each label, its end included, [tokens] int32, by class id."""
        end = self.model.tokenizer.eos_token_id
        found = plain_tokens(list(self.labels), self.model.tokenizer)
        return [torch.tensor([*ids, end], dtype=torch.int32) for ids in found]

    @cached_property
    def _known_answers(self) -> dict[int, tuple[str, dict[int, Tensor]]]:
        return {}

    def _prompt(self, task: Task, row: int, room: int) -> Tensor:
        """The tokens before a row's last completion, [tokens] int32, with room after them.

        Of a prompt that does not leave it in the context the beginning is cut off.
        """
        rows = self.held_out[task.id].rows
        tokens = rows.tokens[int(rows.offsets[row]) : int(rows.offsets[row + 1])]
        given = (tokens < 0).nonzero()
        tokens = tokens[: int(given[-1]) + 1]
        plain = torch.where(tokens < 0, -1 - tokens, tokens)
        return plain[-max(1, self._decoder.context - room) :]

    def _passes(self, mine: Sequence[int], rows: Tensor) -> int:
        """Rows to go through: this worker's, or where all take part in each the longest share."""
        return -(-len(rows) // self.workers.world_size) if self.model.is_sharded else len(mine)

    # Generated answers

    def _generated(
        self, task: Task, rows: Tensor, fingerprint: str | None
    ) -> tuple[Tensor, Tensor]:
        """Exact match and ROUGE-L of the greedy continuation of each row, [rows]."""
        kept_for, kept = self._known_text.get(task.id, (None, torch.zeros(0, 2)))
        if fingerprint is None or kept_for != fingerprint:
            table = torch.zeros(len(rows), 2, device=self.model.device)
            mine = range(self.workers.rank, len(rows), self.workers.world_size)
            lengths = self.held_out[task.id].rows.lengths[rows]
            order = sorted(mine, key=lambda place: -int(lengths[place]))
            for start in range(0, self._passes(mine, rows), EVALUATION_ROWS):
                places = order[start : start + EVALUATION_ROWS]
                if places:
                    table[places] = self._compared(task, rows[places]).to(table.device)
                else:  # the other workers wait for this one at every token
                    self._compared(task, rows[:1])
            self.workers.sum([table])
            kept = table.cpu()
            if fingerprint is not None:
                self._known_text[task.id] = (fingerprint, kept)
        return kept[:, 0], kept[:, 1]

    def _compared(self, task: Task, rows: Tensor) -> Tensor:
        """Exact match and ROUGE-L of some rows generated together, [rows, 2]."""
        prompts = [self._prompt(task, row, self.max_new_tokens) for row in rows.tolist()]
        with self.autocast():
            found = self._decoder.generate(prompts, self.max_new_tokens)
        texts = self.held_out[task.id].rows.texts
        scores = []
        for row, tokens in zip(rows.tolist(), found, strict=True):
            wanted = last_completion(str(texts[row])).strip()
            given = str(self.model.tokenizer.decode(tokens, skip_special_tokens=True)).strip()
            scores.append([float(given == wanted), rouge_l(given, wanted)])
        return torch.tensor(scores)

    @cached_property
    def _known_text(self) -> dict[int, tuple[str, Tensor]]:
        return {}

    # Without the task id

    def _routed_rows(
        self, task: Task, seen: Sequence[Task], rows: Tensor, own: Tensor, router: Router
    ) -> Tensor:
        """Scores after routing, [rows]: the parts of the task that the router names answer."""
        routes = router.scores(self.base_features(task.id)).task_scores.argmax(dim=-1)[rows]
        scores = torch.zeros(len(rows))
        for other in seen:
            places = (routes == other.id).nonzero()[:, 0]
            if other.id == task.id:
                scores[places] = own[places]
            elif len(places):
                self.stack.activate(self.model, other.id)
                scores[places] = self._answered_by(other, task, rows[places])
        return scores

    def _answered_by(self, other: Task, task: Task, rows: Tensor) -> Tensor:
        """Scores of some rows of a task, with another task's parts active."""
        if self._is_closed(task):
            if not self._share_labels(task, other):
                return torch.zeros(len(rows))
            return self._most_likely(task, rows, other.class_ids, None)
        if self._is_raw(task):
            found = self._forward(self.held_out[task.id].rows, self._count_tokens)[rows]
            return found[:, 1] / found[:, 2].clamp(min=1)
        return self._generated(task, rows, None)[0]


def make_evaluator(
    model: TaughtModel,
    stack: MethodStack,
    labels: Sequence[str],
    workers: Workers,
    autocast: Callable[[], Any],
    without_task_id: bool,
    limits: EvaluationSpec,
) -> Evaluator:
    """The evaluator for the kind of a model; see `Evaluator` for the arguments.

    Args:
        model: The model.
        stack: Its methods.
        labels: Label of each class id.
        workers: The worker group.
        autocast: Precision of the forward pass.
        without_task_id: Whether accuracies without the task id are wanted.
        limits: What a language model may generate.
    """
    kind = LanguageEvaluator if model.kind == "causal_lm" else Evaluator
    evaluator = kind(model, stack, labels, workers, autocast, without_task_id)
    if isinstance(evaluator, LanguageEvaluator):
        evaluator.max_new_tokens = limits.max_new_tokens
        evaluator.max_generated_rows = limits.max_generated_rows
    return evaluator


def _spread(places: Tensor, count: int) -> Tensor:
    """At most `count` of some places, evenly spread over them."""
    if len(places) <= count:
        return places
    return places[torch.linspace(0, len(places) - 1, count).round().long()]


def _counted(logits: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Log-likelihood, hits and number of the learned tokens of each row, [rows, 3]."""
    mask = learned_tokens(inputs)
    hits = (logits[:, :-1].argmax(dim=-1) == inputs["input_ids"][:, 1:]) & mask
    likelihood = token_log_likelihoods(logits, inputs)
    return torch.stack([likelihood.sum(1), hits.sum(1).float(), mask.sum(1).float()], dim=1)


def _of_tokens(scores: Tensor) -> dict[str, float]:
    """Perplexity and accuracy over the learned tokens of some rows."""
    likelihood, hits, count = scores.double().sum(dim=0).tolist()
    mean = -likelihood / max(count, 1.0)
    return {
        "perplexity": math.exp(min(mean, MAX_EXPONENT)),
        "token_accuracy": hits / max(count, 1.0),
    }


def _mean(values: Tensor) -> float:
    return float(values.double().mean()) if len(values) else 0.0
