"""Which field of a fine-tuning request a field of its spec came from."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace

from ratchet.pipelines.errors import Problem
from ratchet.service.api.problems import invalid_spec
from ratchet.service.errors import InvalidRequestError, InvalidSpecError
from ratchet.service.schemas.openai import FineTuningRequest, Hyperparameters

TASK_ENTRY, PRESET_ENTRY, LINEAGE_ENTRY, KIND_ENTRY = "task", "preset", "lineage", "kind"

_COUNTS = {"n_epochs": "num_epochs", "batch_size": "batch_size"}


@contextmanager
def told_in_its_words(request: FineTuningRequest) -> Generator[None, None, None]:
    """Tell what is wrong with the request's spec of the fields of the request.

    Raises:
        InvalidSpecError: Within the block, a spec was refused.
    """
    try:
        yield
    except InvalidSpecError as error:
        raise invalid_spec([_told_of(request, each) for each in error.problems]) from error


def _told_of(request: FineTuningRequest, problem: Problem) -> Problem:
    """The problem at the field that is to blame; one that the request does not set is only named.

    A pointer leads into the request's body, where there is no spec.
    """
    field = problem.where.removeprefix("spec").removeprefix(".")
    place = _places(request).get(field)
    if place is None:
        return Problem("", str(replace(problem, where=field)))
    return replace(problem, where=place)


def hyperparameters_of(request: FineTuningRequest) -> tuple[str, Hyperparameters]:
    """The hyperparameters, and the place that they are in: the newer or the older.

    Raises:
        InvalidRequestError: They stand in both.
    """
    newer = request.method.supervised if request.method is not None else None
    if newer is None or newer.hyperparameters is None:
        return "hyperparameters", request.hyperparameters or Hyperparameters()
    place = "method.supervised.hyperparameters"
    if request.hyperparameters is not None:
        message = f"hyperparameters: given twice; leave them in {place}"
        raise InvalidRequestError(message, "hyperparameters")
    return place, newer.hyperparameters


def _places(request: FineTuningRequest) -> dict[str, str]:
    """The request's field by the field of the spec that it sets."""
    found = {
        "model.name": "model",
        "lineage": "model" if request.suffix is None else "suffix",
        "tasks[0].train": "training_file",
        "tasks[0].validation": "validation_file",
        "training.seed": "seed",
    }
    for entry, field in (
        (LINEAGE_ENTRY, "lineage"),
        (TASK_ENTRY, "tasks[0].name"),
        (PRESET_ENTRY, "preset"),
        (KIND_ENTRY, "model.kind"),
    ):
        if (request.metadata or {}).get(entry):
            found[field] = f"metadata.{entry}"
    return found | _rates_and_counts(request)


def _rates_and_counts(request: FineTuningRequest) -> dict[str, str]:
    place, given = hyperparameters_of(request)
    found = {
        f"training.{field}": f"{place}.{name}"
        for name, field in _COUNTS.items()
        if getattr(given, name) not in (None, "auto")
    }
    if given.learning_rate_multiplier not in (None, "auto"):
        for rate in ("learning_rate", "head_learning_rate"):
            found[f"training.{rate}"] = f"{place}.learning_rate_multiplier"
    return found
