import pytest

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.search.decay import decay_settings
from ratchet.pipelines.tuning.search.sampler import Sampler


def tune(**parameters):
    named = {name.replace("__", "."): own for name, own in parameters.items()}
    return TuneSpec.model_validate({"strategy": "stability_decay", "parameters": named})


RATE = {"log": [1e-4, 1e-2], "points": 3}


def test_rates_are_the_points_and_strengths_start_at_the_upper_end():
    found = decay_settings(
        tune(
            training__learning_rate=RATE,
            methods__ewc__strength={"log": [1, 1e5]},
            methods__lwf__strength={"choice": [4.0, 0.5]},
        )
    )
    assert found == {
        "training.learning_rate": "auto",
        "methods.ewc.strength": "auto",
        "methods.lwf.strength": "auto",
        "stability_decay.start.ewc": 1e5,
        "stability_decay.start.lwf": 4.0,
        "stability_decay.learning_rates": [1e-4, 1e-3, 1e-2],
    }


def test_it_is_one_trial_and_no_more():
    own = Sampler(tune(training__learning_rate=RATE))
    assert own.size == 1
    settings = own.ask()
    assert settings is not None
    assert settings["training.learning_rate"] == "auto"
    assert own.ask() is None


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"training__learning_rate": {"log": [1e-4, 1e-2]}}, "needs `points`"),
        ({"methods__ewc__decay": {"uniform": [0.1, 1]}}, "learning rate and strengths"),
        ({"training__num_epochs": {"int": [1, 3]}}, "learning rate and strengths"),
    ],
)
def test_what_it_cannot_find_is_refused_with_the_field(parameters, said):
    with pytest.raises(SpecError, match=said):
        decay_settings(tune(**parameters))
