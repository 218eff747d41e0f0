"""The stream of an update: its tasks, read, cut and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from ratchet.pipelines.data.answers import answers_of, name_answers
from ratchet.pipelines.data.checks import check_tasks
from ratchet.pipelines.data.cutting import Draft, cut_stream, cut_validation
from ratchet.pipelines.data.findings import Findings
from ratchet.pipelines.data.recipes import LanguageData
from ratchet.pipelines.data.rows import Rows, TaskRows
from ratchet.pipelines.data.spill import Reader
from ratchet.pipelines.spec.update_spec import StreamSpec, TaskSpec, UpdateSpec

__all__ = ["Stream", "TaskRows", "load_stream"]


@dataclass(frozen=True)
class Stream:
    """The tasks of an update in the order in which they are taught.

    Attributes:
        tasks: The tasks with their rows.
        warnings: What is suspicious in the data or was done about it, one sentence each.
    """

    tasks: tuple[TaskRows, ...]
    warnings: tuple[str, ...]


def load_stream(
    spec: UpdateSpec,
    taught_labels: Mapping[str, Sequence[str]] | None = None,
    spill_folder: Path | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Stream:
    """Read, cut and check the data of an update.

    A missing validation split is cut from train by `training.seed`, stratified by label, and a
    warning says so.

    Args:
        spec: What is to be taught.
        taught_labels: The labels of each task that the lineage has learned already, by name.
        spill_folder: Where texts go when all of them exceed `data.memory_budget_mb`; by default a
            temporary folder that goes when the texts are no longer used.
        tokenizer: A language model's, which writes out chats and cuts raw text into blocks.

    Raises:
        DataError: With every problem found, each with file and line.
    """
    taught = dict(taught_labels or {})
    findings = Findings(strict=spec.data.strict)
    language = _language(spec, tokenizer)
    reader = Reader(spec, spill_folder, language)
    drafts = _drafts(spec, reader, taught, findings)
    if language is not None:
        drafts = [name_answers(each, answers_of(spec, each.name), findings) for each in drafts]
    cut = [draft for draft in drafts if draft.validation is None]
    seed, fraction = spec.training.seed, spec.data.validation_fraction
    tasks = tuple(cut_validation(draft, fraction, seed) for draft in drafts)
    cut_by_classes = spec.stream is not None and spec.stream.classes_per_task is not None
    check_tasks(
        tasks,
        spec.scenario,
        taught,
        findings,
        cut_by_classes=cut_by_classes,
        labels_answer=language is None,
    )
    findings.raise_errors()
    warnings = [str(problem) for problem in findings.warnings]
    if cut:
        warnings.append(_cut_notice([draft.name for draft in cut], fraction, seed))
    return Stream(tasks, tuple(warnings))


def _language(spec: UpdateSpec, tokenizer: PreTrainedTokenizerBase | None) -> LanguageData | None:
    if spec.model.kind != "causal_lm":
        return None
    assert tokenizer is not None, "the data of a language model needs its tokenizer"
    return LanguageData(tokenizer, spec.training.max_length, spec.data.format)


def _cut_notice(names: Sequence[str], fraction: float, seed: int) -> str:
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return (
        f"validation is not given for {shown}: {fraction:.0%} of each label's training rows were "
        f"cut off for it with seed {seed}"
    )


def _drafts(
    spec: UpdateSpec, reader: Reader, taught: Mapping[str, object], findings: Findings
) -> list[Draft]:
    """The tasks before validation is cut and checks are made, but for those that cannot be read."""
    if spec.stream is not None:
        whole = _read_splits(reader, spec.stream, "stream", findings)
        return [] if whole is None else cut_stream(whole, spec.stream, taught, findings)
    listed = [_read_splits(reader, task, task.name, findings) for task in spec.tasks or ()]
    return [draft for draft in listed if draft is not None]


def _read_splits(
    reader: Reader, section: TaskSpec | StreamSpec, name: str, findings: Findings
) -> Draft | None:
    group_column = section.by if isinstance(section, StreamSpec) else None
    read: dict[str, Rows | None] = {}
    for split in ("train", "validation", "test"):
        uri = getattr(section, split)
        if uri is None:
            read[split] = None
            continue
        rows, problems = reader.read(uri, group_column)
        findings.extend(problems)
        if problems and len(rows) == 0:
            name = (
                ""  # nothing can be said of a task without its rows, but read the other splits too
            )
        read[split] = rows
    train = read["train"]
    if not name or train is None:
        return None
    return Draft(name, train, read["validation"], read["test"])
