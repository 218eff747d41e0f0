"""The study that needs no old data: one trial whose rate and strengths are found task by task."""

from __future__ import annotations

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import JsonObject
from ratchet.pipelines.spec.problems import parameter_path
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.search.space import extremes, points_of
from ratchet.pipelines.tuning.trial import Settings

RATE = "training.learning_rate"


def decay_settings(tune: TuneSpec) -> Settings:
    """The settings of the one trial of a `stability_decay` study.

    The points of the learning rate are the rates to try, the upper end of each strength is where
    it starts to decay.

    Raises:
        SpecError: A field that is neither the learning rate nor a strength, or a rate whose range
            has no points.
    """
    settings: JsonObject = {}
    section: JsonObject = {}
    problems = []
    for name, own in tune.parameters.items():
        where = parameter_path(name)
        top, _, rest = name.partition(".")
        kind, _, field = rest.partition(".")
        if name == RATE:
            points = points_of(own)
            if points is None:
                hint = "Add it: {log: [1.0e-5, 1.0e-3], points: 5}"
                message = "stability_decay tries given rates, so the range needs `points`"
                problems.append(Problem(where, message, hint=hint))
                continue
            section["stability_decay.learning_rates"] = list(points)
        elif (top, field) == ("methods", "strength"):
            strengths = [value for value in extremes(own) if isinstance(value, int | float)]
            if not strengths:
                problems.append(Problem(where, "needs a number for the strength to start at"))
                continue
            section[f"stability_decay.start.{kind}"] = max(strengths)
        else:
            message = "stability_decay finds the learning rate and strengths of methods only"
            problems.append(Problem(where, message, hint="Remove it, or use strategy: search"))
            continue
        settings[name] = "auto"
    if problems:
        raise SpecError(problems)
    return settings | section
