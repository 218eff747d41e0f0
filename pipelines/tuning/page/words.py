"""Objectives, settings and commands in words, as the page and the picture say them."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ratchet.pipelines.pages.words import (
    NONE,
    duration,
    hundredths,
    percent,
    short_duration,
    short_hundredths,
)
from ratchet.pipelines.tuning.trial import OBJECTIVES, Settings, Trial


@dataclass(frozen=True)
class ObjectiveWords:
    """How an objective is written.

    Attributes:
        measure: The measure behind it, with its unit: what an axis is called.
        value: A value of the measure, with its unit.
        tick: A value of the measure on an axis, without.
    """

    measure: str
    value: Callable[[float], str]
    tick: Callable[[float], str]


def _points(value: float) -> str:
    return f"{hundredths(value)} points"


OBJECTIVE_WORDS: Mapping[str, ObjectiveWords] = {
    "plasticity": ObjectiveWords("learning accuracy, %", percent, short_hundredths),
    "stability": ObjectiveWords("forgetting, points", _points, short_hundredths),
    "cost": ObjectiveWords("time of a run", duration, short_duration),
}


def measure_of(objective: str, value: float) -> float:
    """The measure behind a value of an objective: forgetting, not minus forgetting."""
    return OBJECTIVES[objective][1] * value


def said(trial: Trial, objective: str) -> str:
    """A trial's measure of an objective; a dash where it has none."""
    value = trial.objective(objective)
    if value is None:
        return NONE
    return OBJECTIVE_WORDS[objective].value(measure_of(objective, value))


def short_names(parameters: Sequence[str]) -> dict[str, str]:
    """Fields without the section that all readers know, where that leaves them apart."""
    short = {own: own.removeprefix("methods.").removeprefix("training.") for own in parameters}
    return {
        own: name if list(short.values()).count(name) == 1 else own for own, name in short.items()
    }


def setting(value: Any) -> str:
    """A setting for reading: numbers to three digits, the rest as in a spec."""
    if not isinstance(value, float):
        return yaml_text(value)
    return f"{float(f'{value:.3g}'):g}".replace("e-0", "e-").replace("e+0", "e+")


def yaml_text(value: Any) -> str:
    """A value on one line, as a spec or `--set` takes it and reads back the same."""
    text = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def command(spec: str, settings: Settings, changes: Sequence[str] = (), verb: str = "run") -> str:
    """The command that runs an update with a trial's settings, for a POSIX shell.

    Args:
        spec: The spec's file.
        settings: Values by field.
        changes: What the study had changed in the spec, as `field=value`.
        verb: `run`, or `submit` where a service runs updates.
    """
    changes = [own for own in changes if own.partition(".")[0].strip() != "tune"]
    changes += [f"{field}={yaml_text(value)}" for field, value in settings.items()]
    parts = ["ratchet", verb, spec, *(part for own in changes for part in ("--set", own))]
    return shlex.join(parts)


def ending(trial: Trial) -> str:
    """Why a trial that is not done ended."""
    error = trial.error or {}
    kind = error.get("type") if trial.status == "failed" else None
    return ": ".join(part for part in (kind, error.get("message")) if part) or trial.status
