"""Early stopping: where trials are compared, what it does not serve, what a trial reported."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.trial import SeedResult, Trial


def first_comparison(num_stages: int) -> int:
    """Stages after which a trial is held against others for the first time."""
    return max(2, (num_stages + 1) // 4)


def warnings_of(tune: TuneSpec, num_stages: int) -> list[str]:
    """What a reader should know of a study's early stopping before its first trial.

    Args:
        tune: The study's section.
        num_stages: Stages that each trial teaches.
    """
    if tune.early_stopping is None:
        return []
    if (why := _why_never(tune, num_stages)) is not None:
        return [f"tune.early_stopping never stops a trial of this study: {why}; remove it"]
    found = [text for is_so, text in _not_served(tune) if is_so]
    return [
        f"tune.early_stopping goes by average accuracy alone, and {text}: it may stop the trials "
        "that are wanted. Remove it to see them all"
        for text in found
    ]


def _why_never(tune: TuneSpec, num_stages: int) -> str | None:
    if tune.strategy == "stability_decay" or tune.num_trials == 1:
        return "it has one trial, and nothing to hold it against"
    before_the_end = num_stages if tune.num_seeds > 1 else num_stages - 1
    if before_the_end < first_comparison(num_stages):
        return (
            f"trials are first compared after {first_comparison(num_stages)} stages, and a trial "
            "of this study has ended by then"
        )
    return None


def _not_served(tune: TuneSpec) -> list[tuple[bool, str]]:
    rule = tune.choose.rule
    return [
        (rule == "bounded_forgetting", f"tune.choose.rule is {rule}"),
        ("cost" in tune.objectives, "cost is among tune.objectives"),
        ("plasticity" not in tune.objectives, "plasticity is not among tune.objectives"),
    ]


def reports_of(trial: Trial, columns_seen: Sequence[int]) -> list[tuple[int, float]]:
    """What a trial that has ended reported: stages done and average accuracy, in order.

    Args:
        trial: The trial; its first seed is the one that reports.
        columns_seen: Columns of its matrix that are of tasks seen, after each stage.
    """
    if not trial.seeds:
        return []
    reports = stages_of(trial.seeds[0], columns_seen)
    average = trial.mean("average_accuracy")
    if trial.status == "done" and average is not None:
        reports.append((len(columns_seen) + 1, average))
    return reports


def stages_of(seed: SeedResult, columns_seen: Sequence[int]) -> list[tuple[int, float]]:
    """Stages done and average accuracy of a seed, after each stage that it was taught.

    Args:
        seed: What it measured, of a part of the stream perhaps.
        columns_seen: See `reports_of`.
    """
    rows = seed.accuracy_matrix[1 if seed.num_past else 0 :]
    return [
        (num_done, fmean(value or 0.0 for value in row[:seen]))
        for num_done, (row, seen) in enumerate(zip(rows, columns_seen, strict=False), start=1)
    ]
