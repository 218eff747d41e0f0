"""The `stability_decay` section of a spec: how what is left to `auto` is found for each task."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt

from ratchet.pipelines.spec.section import SpecSection


class StabilityDecaySpec(SpecSection):
    """How `learning_rate: auto` and `strength: auto` are found, with no data of earlier tasks.

    `learning_rates` are tried by plain fine-tuning; the best accuracy on the task's validation rows
    is what can be reached. Strengths begin at `start` (by method; where it names none, at 100 times
    the method's default) and are multiplied by `factor` until the accuracy is at least
    (1 - `tolerance`) times that, in at most `max_attempts` trainings. The next task begins where
    this one ended.
    """

    learning_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (
        1e-5,
        3e-5,
        1e-4,
        3e-4,
        1e-3,
    )
    start: dict[str, PositiveFloat] = Field(default_factory=dict)
    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.2
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.5
    max_attempts: PositiveInt = 10
