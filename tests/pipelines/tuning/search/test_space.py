"""Covers, beside `space`: `spec.tune`."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.spec.changes import Change
from ratchet.pipelines.spec.reading import parse_spec
from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.spec.update_spec import spec_as_dict
from ratchet.pipelines.tuning.search.space import (
    RawSpec,
    check_witnesses,
    num_points,
    place_of,
    points_of,
    witnesses,
)


def ranges(**parameters):
    named = {name.replace("__", "."): own for name, own in parameters.items()}
    return TuneSpec.model_validate({"parameters": named}).parameters


@pytest.fixture
def source(tmp_path):
    """A spec that can be run as far as its text says."""
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "b"}\n')
    raw = {
        "lineage": "study",
        "model": {"name": "minilm"},
        "tasks": [{"name": "one", "train": "rows.jsonl"}, {"name": "two", "train": "rows.jsonl"}],
        "methods": [{"type": "lora", "rank": 4}, {"type": "ewc"}],
    }
    return RawSpec(raw, tmp_path)


def place(name):
    """Where a searched field stands in the spec; a name with dots is one key."""
    path = name.replace("__", ".")
    return f'tune.parameters["{path}"]' if "." in path else f"tune.parameters.{path}"


def said(source, **parameters):
    with pytest.raises(SpecError) as caught:
        witnesses(source, ranges(**parameters))
    return [str(problem) for problem in caught.value.problems]


def test_a_space_that_fits_the_spec_passes(source):
    space = ranges(
        training__learning_rate={"log": [1e-5, 1e-3]},
        methods__ewc__strength={"log": [1, 1e5]},
        methods__ewc__labels={"choice": ["sampled", "observed"]},
        methods__lora__rank={"int": [2, 32]},
    )
    tried = {(own.name, own.value) for own in witnesses(source, space)}
    assert {("methods.lora.rank", 2), ("methods.lora.rank", 32)} < tried
    assert {("methods.ewc.strength", 1), ("methods.ewc.strength", 1e5)} < tried


@pytest.mark.parametrize(
    ("name", "own", "expected"),
    [
        ("training__learning_rat", {"log": [1, 2]}, "Did you mean 'learning_rate'"),
        ("methods__ewc__strenth", {"log": [1, 2]}, "strength"),
        ("methods__mas__strength", {"log": [1, 2]}, "no such item"),
        ("methods__lora__rank", {"uniform": [1, 3]}, "integer"),
        ("methods__ewc__decay", {"uniform": [0.5, 1.5]}, "less than or equal to 1"),
        ("methods__ewc__labels", {"choice": ["sampled", "seen"]}, "'seen'"),
        ("training__seed", {"int": [0, 3]}, "num_seeds"),
        ("tasks", {"choice": [[], [{}]]}, "all trials share this field"),
        ("columns", {"choice": [{}, {"text": "label"}]}, "all trials share this field"),
        ("columns__text", {"choice": ["text", "label"]}, "all trials share this field"),
        ("data__format", {"choice": ["text", "chat"]}, "all trials share this field"),
        ("data__strict", {"choice": [True, False]}, "all trials share this field"),
        ("data", {"choice": [{}, {"strict": True}]}, "data.format, which is a part of it"),
        ("model__kind", {"choice": ["classifier", "causal_lm"]}, "all trials share this field"),
        ("training", {"choice": [{}, {"seed": 1}]}, "training.seed, which is a part of it"),
        ("model__name__x", {"choice": [1, 2]}, "nothing below this field"),
    ],
)
def test_what_is_wrong_with_a_field_or_an_end_is_said_before_anything_is_taught(
    source, name, own, expected
):
    told = said(source, **{name: own})
    assert all(line.startswith(place(name)) for line in told)
    assert any(expected in line for line in told), told


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("methods__ewc__strength", "methods__1__strength", "the same field as tune.parameters["),
        ("methods__1__strength", "methods__01__strength", "the same field as tune.parameters["),
        ("methods__ewc__strength", "methods__1", "is a part of the other"),
        ("methods", "methods__ewc__strength", "is a part of the other"),
    ],
)
def test_a_field_is_searched_once_under_whatever_name(source, one, other, expected):
    (told,) = said(source, **{one: {"choice": [1, 2]}, other: {"choice": [3, 4]}})
    assert told.startswith(place(other))
    assert expected in told


def test_fields_of_one_method_and_of_two_are_others(source):
    space = ranges(
        methods__1__strength={"log": [1, 2]},
        methods__ewc__decay={"uniform": [0.5, 1]},
        methods__0__rank={"int": [2, 4]},
    )
    assert {own.name for own in witnesses(source, space)} == set(space)


@pytest.mark.parametrize(
    ("tune", "expected"),
    [
        ({"parameters": {"training.learning_rate": {"choice": [0.1, 0.1]}}}, "0.1 is there twice"),
        ({"parameters": {"data": {"choice": [{}, 1, {}]}}}, "{} is there twice"),
        ({"objectives": ["plasticity", "plasticity"]}, "'plasticity' is there twice"),
        ({"parameters": {"data": {"log": [1, 2], "points": 10_001}}}, "equal to 10000"),
    ],
)
def test_what_is_there_twice_is_a_wrong_spec(source, tune, expected):
    parameters = {"training.learning_rate": {"log": [1e-5, 1e-3]}}
    with pytest.raises(SpecError, match=expected) as caught:
        parse_spec({**source.raw, "tune": {"parameters": parameters} | tune}, source.folder)
    (problem,) = caught.value.problems
    assert problem.where.startswith("tune.")


def test_everything_wrong_is_said_at_once(source):
    told = said(
        source,
        training__num_epoch={"int": [1, 2]},
        methods__ewc__decay={"uniform": [0.5, 3.0]},
    )
    assert len(told) == 2


def test_what_only_the_rows_can_tell_is_said_of_the_field_and_once(source):
    def no_more_than_four(spec):
        if spec.methods[0].rank > 4:
            raise SpecError([Problem("methods[0].rank", "four at most")])

    rates = {"training__learning_rate": {"log": [1e-5, 1e-3]}}
    found = witnesses(source, ranges(methods__lora__rank={"int": [2, 8]}, **rates))
    with pytest.raises(SpecError) as caught:
        check_witnesses(found, no_more_than_four)
    assert [str(own) for own in caught.value.problems] == [
        'tune.parameters["methods.lora.rank"]: four at most (got 5)'
    ]


def test_a_spec_that_is_wrong_by_itself_says_so(source):
    broken = RawSpec({**source.raw, "gate": {"min": 1}}, source.folder)
    with pytest.raises(SpecError, match=r"^gate\.min"):
        assert broken.spec


def test_a_trials_settings_stand_over_changes_and_those_over_the_file(source):
    own = RawSpec(source.raw, source.folder, (Change(("training", "learning_rate"), 0.5),))
    assert own.with_settings({}).training.learning_rate == 0.5
    found = own.with_settings({"training.learning_rate": 0.25, "methods.ewc.strength": 7.0})
    assert found.training.learning_rate == 0.25
    assert [method.model_dump().get("strength") for method in found.methods] == [None, 7.0]
    assert own.without_tune({}).tune is None


@pytest.mark.parametrize(
    ("own", "points"),
    [
        ({"log": [1, 100], "points": 3}, (1, 10, 100)),
        ({"uniform": [0, 1], "points": 5}, (0, 0.25, 0.5, 0.75, 1)),
        ({"int": [2, 4]}, (2, 3, 4)),
        ({"choice": ["b", "a"]}, ("b", "a")),
        ({"log": [1, 100]}, None),
    ],
)
def test_points_of_a_range(own, points):
    own = ranges(field=own)["field"]
    found = points_of(own)
    assert (None if found is None else tuple(found)) == points
    assert num_points(own) == (None if points is None else len(points))


@given(
    low=st.floats(1e-6, 1e3),
    factor=st.floats(1.5, 1e6),
    number=st.integers(2, 20),
)
def test_points_of_a_logarithmic_range_ascend_between_its_ends(low, factor, number):
    points = points_of(ranges(field={"log": [low, low * factor], "points": number})["field"])
    assert points is not None
    assert len(points) == number
    assert (points[0], points[-1]) == (low, low * factor)
    assert list(points) == sorted(points)


def test_a_range_of_a_thousand_million_numbers_is_not_written_out():
    own = ranges(field={"int": [1, 10**9]})["field"]
    assert num_points(own) == 10**9
    assert points_of(own) == range(1, 10**9 + 1)
    assert (place_of(own, 10**9), place_of(own, 0), place_of(own, "auto")) == (10**9, None, None)


def test_the_settings_that_were_chosen_read_back_as_the_same_spec(source, tmp_path):
    """A preset brings methods, and null may be what was asked for."""
    training = {"max_grad_norm": None, "checkpoint_every_steps": None}
    raw = {**source.raw, "preset": "ewc", "training": training}
    del raw["methods"]
    best = RawSpec(raw, tmp_path).without_tune({"methods.ewc.strength": 7.0})
    again = parse_spec(yaml.safe_load(yaml.safe_dump(spec_as_dict(best))), tmp_path)
    assert again == best
    assert again.training.max_grad_norm is None
    assert [
        method.model_dump().get("strength") for method in again.methods if method.type == "ewc"
    ] == [7.0]
