"""What may be left to the search, what is refused and why, and how many trainings it costs."""

import pytest

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.spec.auto_fields import (
    first_strengths,
    is_searched,
    num_trainings,
    search_warnings,
    without_search,
)
from ratchet.pipelines.spec.changes import parse_changes
from ratchet.pipelines.spec.methods import METHOD_CONFIGS, StrengthConfig
from ratchet.pipelines.spec.reading import parse_spec
from ratchet.pipelines.spec.schema import spec_schema
from ratchet.pipelines.spec.update_spec import UpdateSpec

EWC = {"type": "ewc", "strength": "auto"}
RATE = {"learning_rate": "auto"}


def raw(**changes):
    one = {"name": "one", "train": "a.jsonl"}
    return {"lineage": "intents", "model": {"name": "minilm"}, "tasks": [one], **changes}


def parsed(folder, **changes):
    (folder / "a.jsonl").touch()
    return parse_spec(raw(**changes), folder)


def problems(folder, **changes):
    with pytest.raises(SpecError) as caught:
        parsed(folder, **changes)
    return {problem.where: str(problem) for problem in caught.value.problems}


def spec(**changes):
    return UpdateSpec.model_validate(raw(**changes))


@pytest.mark.parametrize(
    "kind", [k for k, config in METHOD_CONFIGS.items() if issubclass(config, StrengthConfig)]
)
def test_every_method_with_a_strength_may_leave_it_to_the_search(tmp_path, kind):
    found = parsed(tmp_path, methods=[{"type": kind, "strength": "auto"}], training=RATE)
    default = METHOD_CONFIGS[kind].model_fields["strength"].default
    assert first_strengths(found) == {kind: 100 * default}
    assert without_search(found).training.rate == 1e-5


def test_every_regularization_has_a_strength_and_those_of_a_loss_may_leave_it_open():
    for kind, config in METHOD_CONFIGS.items():
        if config.family == "regularization":
            assert "strength" in config.model_fields
            # Weight interpolation adds no term: a training is scored before its way back.
            assert issubclass(config, StrengthConfig) == (kind != "wise_ft")


def test_a_way_back_is_not_left_to_the_search(tmp_path):
    found = problems(tmp_path, methods=[{"type": "wise_ft", "strength": "auto"}])
    assert "valid number" in found["methods[0].strength"]


def test_a_change_from_outside_may_say_auto(tmp_path):
    (tmp_path / "a.jsonl").touch()
    changes = parse_changes(["training.learning_rate=auto", "methods.ewc.strength=auto"])
    found = parse_spec(raw(preset="ewc"), tmp_path, changes)
    assert found.training.learning_rate == "auto"
    assert first_strengths(found) == {"ewc": 1e5}


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"training": {"learning_rate": "aut"}}, "training.learning_rate", "should be auto"),
        ({"training": {"learning_rate": 0}}, "training.learning_rate", "greater than 0"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate", "finite"),
        ({"methods": [{**EWC, "strength": -1}]}, "methods[0].strength", "or equal to 0, or the"),
        ({"methods": [{**EWC, "strength": None}]}, "methods[0].strength", "nothing is given"),
        ({"methods": [EWC], "joint": True}, "methods.ewc.strength", "learned at once"),
        ({"training": RATE, "joint": True}, "training.learning_rate", "learned at once"),
        (
            {"training": RATE, "methods": [{"type": "analytic"}]},
            "training.learning_rate",
            "analytic trains nothing by gradient",
        ),
        (
            {"methods": [EWC], "scaling": {"num_workers": 2, "sharding": "fsdp"}},
            "methods.ewc.strength",
            "fsdp gives each worker a part",
        ),
        (
            {"methods": [EWC], "stability_decay": {"start": {"si": 1.0}}},
            "stability_decay.start.si",
            "and there are: ewc",
        ),
        ({"stability_decay": {"start": {"si": 1.0}}}, "stability_decay.start.si", "is none"),
        ({"stability_decay": {"factr": 0.5}}, "stability_decay.factr", "Did you mean 'factor'?"),
        ({"stability_decay": {"factor": 1.0}}, "stability_decay.factor", "less than 1"),
        ({"stability_decay": {"learning_rates": []}}, "stability_decay.learning_rates", "one item"),
        (
            {"methods": [{"type": "replay", "fraction": "auto"}]},
            "methods[0].fraction",
            "valid number",
        ),
    ],
)
def test_what_cannot_be_found_is_refused_with_the_reason(tmp_path, changes, where, says):
    found = problems(tmp_path, **changes)
    assert where in found
    assert says in found[where]


def test_a_section_that_nothing_uses_is_warned_of():
    assert "nothing is searched for" in search_warnings(spec(stability_decay={}))[0]
    assert search_warnings(spec(stability_decay={}, training=RATE)) == []
    study = {"strategy": "stability_decay", "parameters": {"methods.ewc.strength": {"log": [1, 9]}}}
    assert search_warnings(spec(stability_decay={}, tune=study)) == []
    assert search_warnings(spec(training=RATE)) == []


@pytest.mark.parametrize(
    ("changes", "first", "later"),
    [
        ({}, (0, 0), (0, 0)),
        ({"training": RATE}, (5, 5), (5, 5)),
        ({"methods": [EWC]}, (0, 0), (2, 11)),
        ({"methods": [EWC], "training": RATE}, (5, 5), (6, 15)),
        ({"methods": [{"type": "l2_sp", "strength": "auto"}]}, (2, 11), (2, 11)),
        (
            {"methods": [EWC], "training": RATE, "stability_decay": {"max_attempts": 3}},
            (5, 5),
            (6, 8),
        ),
    ],
)
def test_the_number_of_trainings_is_known_before(changes, first, later):
    assert num_trainings(spec(**changes), is_first=True) == first
    assert num_trainings(spec(**changes), is_first=False) == later


def test_a_start_of_ones_own_and_given_strengths_are_kept():
    methods = [EWC, {"type": "si", "strength": 0.5}]
    found = spec(methods=methods, stability_decay={"start": {"ewc": 7.0}})
    assert first_strengths(found) == {"ewc": 7.0, "si": 0.5}
    assert first_strengths(without_search(found)) == {"ewc": 7.0, "si": 0.5}
    assert not is_searched(without_search(found))


def test_the_schema_says_number_or_auto():
    schema = spec_schema()
    rate = schema["$defs"]["TrainingSpec"]["properties"]["learning_rate"]
    assert {"const": "auto", "type": "string"} in rate["oneOf"]
    assert rate["default"] == 5e-5
