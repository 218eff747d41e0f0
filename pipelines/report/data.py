"""What a report is made of: plain JSON values, so that a page can be made again from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NotRequired, TypedDict

from ratchet.pipelines.pages.search_record import SearchRecord

Matrix = Sequence[Sequence[float | None]]


@dataclass(frozen=True)
class ColumnSizes:
    """Parameters of a task's column.

    Attributes:
        total: All of them.
        own: Its blocks and maps.
        from_base: Its laterals from the base.
        from_tasks: Those from earlier columns, by the name of the task whose column they read.
    """

    total: int
    own: int
    from_base: int
    from_tasks: Mapping[str, int]


@dataclass(frozen=True)
class ForgottenExample:
    """A training example that was forgotten.

    Attributes:
        task: Name of its task.
        label: Its label.
        text: Its text.
        events: How often it went from right to wrong.
        never_learned: Whether it was never right.
    """

    task: str
    label: str
    text: str
    events: int
    never_learned: bool


class ChangeReport(TypedDict):
    """How the gate compared a task by one measure, on validation rows.

    Attributes:
        version: The version whose answers are held to; None for those right after learning.
        before: Accuracy then.
        after: Accuracy now.
        low: The smallest loss that the rows do not contradict.
        high: The largest.
        outcome: `held`, `lost` or `unsure`; None where no limit is set.
        told: All this as a sentence.
    """

    version: int | None
    before: float
    after: float
    low: float
    high: float
    outcome: str | None
    told: str


class ComparisonReport(TypedDict):
    """How the gate compared a task: `TaskComparison` of `ratchet.pipelines.evaluation.verdict`.

    Attributes:
        task: Its name.
        against: `anchor`, `learned`, or None where there is nothing to hold.
        own_now: Accuracy among its own labels; None when the version does not have the task.
        served_now: Accuracy as `auto` answers it; None where it is not served that way.
        own: The comparison that `max_forgetting` judges.
        served: The comparison that `max_served_loss` judges.
        beside: Sentences of what changed against the champion, which decides nothing.
        passed: Whether the task satisfies the rule.
    """

    task: str
    against: str | None
    own_now: float | None
    served_now: float | None
    own: ChangeReport | None
    served: ChangeReport | None
    beside: Sequence[str]
    passed: bool


class VerdictReport(TypedDict):
    """What the gate decided, and why: `Verdict` of `ratchet.pipelines.evaluation.verdict`."""

    promoted: bool
    headline: str
    confidence: float
    out_of_scope: str | None
    reasons: Sequence[str]
    comparisons: Sequence[ComparisonReport]


class TaskReport(TypedDict):
    """One task of the version.

    Attributes:
        name: Name of the task.
        stage: The row of the accuracy matrix that came right after it was learned, from 0.
        is_new: Whether this update taught it.
        num_labels: Labels that it has.
        num_train: Training rows; None where they are not known any more.
        num_validation: Validation rows.
        num_test: Test rows.
        seconds: Seconds by phase, in order; empty for a task of an earlier update.
        peak_memory_bytes: Peak resident memory of the largest worker while it was learned.
        bytes_added: Bytes that the version grew by with it.
        trainable_parameters: Parameters that were trained for it.
    """

    name: str
    stage: int
    is_new: bool
    num_labels: int
    num_train: int | None
    num_validation: int | None
    num_test: int | None
    seconds: Mapping[str, float]
    peak_memory_bytes: int | None
    bytes_added: int | None
    trainable_parameters: int | None


class RoutedTask(TypedDict):
    """What the router says of a task's test rows.

    Attributes:
        num_rows: How many there are.
        num_accepted: How many of them the threshold lets through.
        num_own_task: How many of them are nearest to their own task.
    """

    num_rows: int
    num_accepted: int
    num_own_task: int


class OutOfScope(TypedDict):
    """How requests that belong to no task are rejected.

    Attributes:
        threshold: The score below which a request is rejected.
        accept_fraction: Share of validation text that was to be accepted.
        routed: Every task of the version by name, as the router sees its test rows.
    """

    threshold: float
    accept_fraction: float
    routed: Mapping[str, RoutedTask]


@dataclass(frozen=True)
class ServedTask:
    """What requests that name no task get for a task's test rows, as shares of them.

    Attributes:
        accuracy: Answered with their label.
        other_task: Answered with a wrong label that the task does not have.
        rejected: Rejected as text of no task.
        within_task: Answered with a wrong label of the task.
        num_rows: How many rows there are.
    """

    accuracy: float
    other_task: float
    rejected: float
    within_task: float
    num_rows: int


class AsServedReport(TypedDict):
    """What requests that name no task get.

    Attributes:
        average_accuracy: Mean over tasks, on test rows.
        tasks: Every task of the version by name.
        answer_by: What answers them: `heads`, `routed`, `prototypes` or `mixture`.
        accuracy: What each way reached on validation rows, without rejection.
        num_rows: How many validation rows these were.
    """

    average_accuracy: float
    tasks: Mapping[str, ServedTask]
    answer_by: str
    accuracy: Mapping[str, float]
    num_rows: int


class LanguageReport(TypedDict):
    """What only language models are measured by.

    Attributes:
        main_scores: What the accuracy matrix holds of each task: `accuracy` of closed answers,
            `exact_match` or `token_accuracy`.
        matrices: Further measures on test data by name (`perplexity`, `token_accuracy`,
            `exact_match`, `rouge_l`), each [stages, tasks]; None where not measured.
    """

    main_scores: Sequence[str]
    matrices: Mapping[str, Matrix]


class ReportData(TypedDict):
    """Everything that the page shows.

    Attributes:
        lineage: Name of the lineage.
        version: Number of the version.
        parent: The version that it grew from, or None for the first.
        created: When it was made, ISO 8601.
        base_model: Name of the base model.
        scenario: `class_incremental`, `task_incremental` or `domain_incremental`.
        promoted: Whether the version became champion.
        verdict: What the gate decided, and why.
        tasks: Every task of the version, in the order of the matrix's columns.
        accuracy_matrix: Test accuracies, [stages, tasks]; in the class-incremental scenario over
            all labels. None where not evaluated.
        accuracy_matrix_with_task_id: The same over each task's own labels, or None when the first
            already is.
        metrics: Metrics of METHODS.md by name, of `accuracy_matrix`.
        metrics_with_task_id: The same of the other matrix, or None.
        warnings: What was found wrong with the data, a sentence each.
        spec_yaml: The settings as YAML.
        methods: The stack in words, a method each.
        seconds: Seconds by phase of the whole update; their sum is shown as its time.
        out_of_scope: Calibration of rejection.
        as_served: What requests that name no task get; absent for a language model.
        forgotten: The most forgotten training examples, where they were counted.
        columns: Parameters of each task's column by its name; empty without columns.
        search: What was tried and decided for each task by its name, where it was left to `auto`;
            see `SearchRecord`.
        language: What only language models are measured by; absent for a classifier.
    """

    lineage: str
    version: int
    parent: int | None
    created: str
    base_model: str
    scenario: str
    promoted: bool
    verdict: VerdictReport
    tasks: Sequence[TaskReport]
    accuracy_matrix: Matrix
    accuracy_matrix_with_task_id: Matrix | None
    metrics: Mapping[str, float | None]
    metrics_with_task_id: Mapping[str, float | None] | None
    warnings: Sequence[str]
    spec_yaml: str
    methods: Sequence[str]
    seconds: Mapping[str, float]
    out_of_scope: OutOfScope
    as_served: NotRequired[AsServedReport]
    forgotten: NotRequired[Sequence[ForgottenExample]]
    columns: NotRequired[Mapping[str, ColumnSizes]]
    search: NotRequired[Mapping[str, SearchRecord]]
    language: NotRequired[LanguageReport]
