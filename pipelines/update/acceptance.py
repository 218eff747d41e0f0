"""An informed yes: what a person answers for who promotes a version by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ratchet.pipelines.answering.frozen_base import BaseShelf, best_device
from ratchet.pipelines.answering.golden import check_golden
from ratchet.pipelines.answering.served_version import load_served_version
from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.evaluation.gate import decide
from ratchet.pipelines.registry.manifest import read_manifest
from ratchet.pipelines.spec.problems import unknown
from ratchet.pipelines.update.gating import read_gate_record
from ratchet.pipelines.version import load_version

# Losses are counts over rows: one of exactly what is accepted must not fail by rounding.
ROUNDING = 1e-9


def check_accepted(folder: Path, accepted: Mapping[str, float]) -> None:
    """Check that a version lost no more than a person accepts, and nothing that they do not name.

    It is held to its limits once more, by what it keeps.

    Args:
        folder: The version's folder.
        accepted: By task, the loss that is accepted, a share of its validation rows.

    Raises:
        SpecError: A task that the version does not have; a loss larger than the one accepted; a
            task that is not named and whose limits do not hold.
    """
    kept = read_gate_record(folder)
    problems = [
        unknown("--accept-loss", name, sorted(kept.answers), "task")
        for name in accepted
        if name not in kept.answers
    ]
    for own in decide(kept.answers, None, kept.anchors, kept.rule).comparisons:
        losses = [found for found in (own.own, own.served) if found is not None]
        if own.task in accepted:
            limit = accepted[own.task]
            problems += [
                Problem(f"--accept-loss {own.task}", f"more was lost: {found.told}", limit)
                for found in losses
                if found.loss > limit + ROUNDING
            ]
        elif not own.passed:
            hint = "Accept its loss too, or teach the update again"
            problems += [Problem(own.task, reason, hint=hint) for reason in own.reasons]
    if problems:
        raise SpecError(problems)


def check_loads(folder: Path) -> None:
    """Load a version as serving does, and check its golden answers.

    Raises:
        RatchetError: It does not load, or answers otherwise than it was trained to.
    """
    if read_manifest(folder).kind == "causal_lm":
        load_version(folder)
        return
    version = load_served_version(folder, BaseShelf(best_device()))
    check_golden(version, folder)
    version.close()
