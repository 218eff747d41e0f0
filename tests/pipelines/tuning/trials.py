"""Made-up trials, with what a test is about and nothing else to say."""

from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.study import Study
from ratchet.pipelines.tuning.trial import SeedResult, Trial

RATE, STRENGTH = "training.learning_rate", "methods.ewc.strength"


def measured(seed, plasticity, forgetting, average=None, seconds=10.0, shared=0.0):
    """What a seed measured on two tasks."""
    average = plasticity - forgetting / 2 if average is None else average
    metrics = {
        "learning_accuracy": plasticity,
        "forgetting": forgetting,
        "average_accuracy": average,
    }
    after = None if plasticity is None or forgetting is None else plasticity - forgetting
    matrix = ((plasticity, 0.1), (after, plasticity))
    test = {name: value and value - 0.01 for name, value in metrics.items()}
    return SeedResult(seed, metrics, test, matrix, ("travel", "work"), seconds, shared)


def trial(number, plasticity, forgetting, average=None, seconds=10.0, settings=None, **changes):
    """A finished trial; a list of values gives one seed each."""
    if not isinstance(plasticity, list):
        plasticity, forgetting = [plasticity], [forgetting]
    seeds = tuple(
        measured(seed, own, lost, average, seconds)
        for seed, (own, lost) in enumerate(zip(plasticity, forgetting, strict=True))
    )
    settings = {RATE: 1e-4} if settings is None else settings
    return Trial(
        **{"number": number, "settings": settings, "status": "done", "seeds": seeds} | changes
    )


def failed(number, message="it broke"):
    """A trial that failed before it measured anything."""
    return Trial(number, {RATE: 1e-1}, "failed", (), {"type": "DivergedError", "message": message})


def study(trials, **tune):
    """A study over a learning rate and a strength, unless told otherwise."""
    parameters = {RATE: {"log": [1e-5, 1e-1]}, STRENGTH: {"log": [1, 1e5]}}
    spec = TuneSpec.model_validate({"parameters": parameters} | tune)
    return Study("intents-1", "intents", "intents.yaml", spec, tuple(trials), 300.0)
