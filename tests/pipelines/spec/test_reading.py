"""Covers, beside `reading`: `changes`, `presets`, `problems`, `schema`, `section`,
`update_spec`.
"""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.spec.changes import parse_changes
from ratchet.pipelines.spec.methods import METHOD_CONFIGS, stack_problems
from ratchet.pipelines.spec.presets import PRESETS_FOLDER, preset_advice, preset_names, read_preset
from ratchet.pipelines.spec.reading import load_spec, parse_spec
from ratchet.pipelines.spec.update_spec import UpdateSpec


def sound(**changes):
    """A spec that is right, with fields changed; those set to ... are left out."""
    raw = {
        "lineage": "intents",
        "model": {"name": "minilm"},
        "tasks": [{"name": "one", "train": "a.jsonl"}, {"name": "two", "train": "a.jsonl"}],
        **changes,
    }
    return {key: value for key, value in raw.items() if value is not ...}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "a.jsonl").touch()
    (tmp_path / ".a.jsonl").touch()
    return tmp_path


def problems_of(raw, folder):
    with pytest.raises(SpecError) as caught:
        parse_spec(raw, folder)
    return caught.value.problems


def write(folder, text):
    path = folder / "spec.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_list_of_wrong_items_is_not_also_said_to_be_too_short(folder):
    with pytest.raises(SpecError) as error:
        parse_spec({**sound(), "tasks": [{"name": "a b", "train": "a.jsonl"}]}, folder)
    assert [problem.where for problem in error.value.problems] == ["tasks[0].name"]


def test_a_choice_of_one_value_is_no_choice(folder):
    tune = {"parameters": {"training.learning_rate": {"choice": [1e-3]}}}
    with pytest.raises(SpecError, match="needs at least 2 items"):
        parse_spec({**sound(), "tune": tune}, folder)


def test_a_sound_spec_has_absolute_paths(folder):
    spec = parse_spec(sound(), folder)
    assert spec.tasks[0].train == str(folder / "a.jsonl")
    assert spec.training.num_epochs == 3


@pytest.mark.parametrize(
    ("changes", "where", "says"),
    [
        ({"lineage": 2024}, "lineage", "Put it in quotes"),
        ({"lineage": True}, "lineage", "Put it in quotes"),
        ({"lineage": "a b"}, "lineage", "letters, digits"),
        ({"lineage": "x" * 65}, "lineage", "1 to 64"),
        ({"lineage": "größe"}, "lineage", "letters, digits"),
        ({"lineage": None}, "lineage", "nothing is given"),
        ({"linage": "x"}, "linage", "Did you mean 'lineage'?"),
        ({"tasks": "x"}, "tasks", "should be a list"),
        ({"tasks": []}, "tasks", "at least one"),
        ({"tasks": [1]}, "tasks[0]", "mapping of fields"),
        ({"tasks": None}, "tasks", "exactly one of"),
        ({"stream": {"train": "a.jsonl", "by": "x"}}, "tasks", "exactly one of"),
        ({"tasks": [{"name": "one", "train": "b.jsonl"}]}, "tasks[0].train", "no such file"),
        ({"tasks": [{"name": "one", "train": "*.csv"}]}, "tasks[0].train", "no such file"),
        ({"tasks": [{"name": "one", "train": ".*.jsonl"}]}, "tasks[0].train", "no such file"),
        ({"tasks": [{"name": "one", "train": "**/**/*"}]}, "tasks[0].train", "once at most"),
        (
            {"evaluation": {"retention": {"test": "a.jsonl", "train": "*.csv"}}},
            "evaluation.retention.train",
            "no such file",
        ),
        (
            {"evaluation": {"retention": {"test": "b.jsonl"}}},
            "evaluation.retention.test",
            "no such file",
        ),
        ({"routing": {"out_of_scope": "b.jsonl"}}, "routing.out_of_scope", "no such file"),
        ({"tasks": [{"name": "one", "train": "x" * 5000}]}, "tasks[0].train", "no such file"),
        ({"tasks": [{"name": "one", "train": "a\0b"}]}, "tasks[0].train", "no such file"),
        ({"tasks": [{"name": "one", "train": 7}]}, "tasks[0].train", "Put it in quotes"),
        ({"methods": 5}, "methods", "should be a list"),
        ({"methods": {"type": "ewc"}}, "methods", "should be a list"),
        ({"methods": None}, "methods", "nothing is given"),
        ({"methods": ["ewc"]}, "methods[0]", "mapping"),
        ({"methods": [{"type": "ewcc"}]}, "methods[0].type", "Did you mean 'ewc'?"),
        ({"methods": [{"strength": 1}]}, "methods[0].type", "needs a type"),
        ({"methods": [{"type": ["ewc"]}]}, "methods[0].type", "unknown method"),
        ({"methods": [{"type": "ewc", "strenght": 1}]}, "methods[0].strenght", "'strength'"),
        ({"methods": [{"type": "ewc", "strength": -1}]}, "methods[0].strength", "greater than"),
        ({"methods": [{"type": "ewc"}, {"type": "ewc"}]}, "methods[1].type", "once"),
        ({"ewc": {"strength": 1}}, "ewc", "unknown field"),
        ({"training": None}, "training", "nothing is given"),
        ({"training": 3}, "training", "mapping of fields"),
        ({"training": {"sed": 1}}, "training.sed", "Did you mean 'seed'?"),
        ({"training": {"learning_rate": float("nan")}}, "training.learning_rate", "finite"),
        ({"training": {"learning_rate": float("inf")}}, "training.learning_rate", "finite"),
        ({"training": {"learning_rate": 10**400}}, "training.learning_rate", "valid number"),
        ({"training": {"num_epochs": 1.5}}, "training.num_epochs", "integer"),
        ({"scenario": "class-incremental"}, "scenario", "Did you mean 'class_incremental'?"),
        ({"scenario": {}}, "scenario", "unknown value"),
        ({"preset": "replai"}, "preset", "Did you mean 'replay'?"),
        ({"preset": ["replay"]}, "preset", "valid string"),
        ({"preset": "replay", "methods": [{"type": "ewc"}]}, "methods", "not both"),
        ({"gate": {"max_forgetting": 2}}, "gate.max_forgetting", "less than or equal to 1"),
        ({"routing": {"answer_by": "guess"}}, "routing.answer_by", "allowed: auto, heads, routed"),
        ({"gate": {"max_served_loss": -1}}, "gate.max_served_loss", "greater than or equal to 0"),
        ({"gate": {"confidence": 1}}, "gate.confidence", "less than 1"),
        ({"gate": {"confidence": 0.5}}, "gate.confidence", "greater than 0.5"),
        ({"gate": {"when_unsure": "guess"}}, "gate.when_unsure", "estimate, refuse, promote"),
        ({"gate": {"decide_over": "all_labels"}}, "gate.decide_over", "gate.max_forgetting"),
        ({"gate": {"decide_over": "all_labels"}}, "gate.decide_over", "gate.max_served_loss"),
        ({"scaling": {"sharding": "fsdp"}}, "scaling", "set num_workers to 2 or more"),
        (
            {"scaling": {"sharding": "fsdp", "num_workers": 2}, "methods": [{"type": "lwf"}]},
            "methods[0].type",
            "Use sharding: data, or one of",
        ),
        (
            {"methods": [{"type": "mam"}], "training": {"gradient_checkpointing": True}},
            "training.gradient_checkpointing",
            "does not work with mam",
        ),
        ({3: 4}, "3", "text"),
        ({"training": {3: 4}}, "training[3]", "text"),
    ],
)
def test_each_mistake_is_named_with_what_is_allowed(changes, where, says, folder):
    found = {problem.where: str(problem) for problem in problems_of(sound() | changes, folder)}
    assert where in found
    assert says in found[where]


def test_a_missing_field_is_named(folder):
    [problem] = problems_of(sound(lineage=...), folder)
    assert str(problem) == "lineage: this field is required"


def test_every_problem_is_reported_at_once(folder):
    raw = sound(
        lineage="a b",
        scenario="none",
        methods=[{"type": "ewc", "strength": "x"}, {"type": "repla"}],
        training={"sed": 1},
        tasks=[{"name": "one", "train": "no.jsonl"}, {"name": "one", "train": "a.jsonl"}],
    )
    assert {problem.where for problem in problems_of(raw, folder)} == {
        "lineage",
        "scenario",
        "methods[0].strength",
        "methods[1].type",
        "training.sed",
        "tasks[0].train",
        "tasks[1].name",
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        ("# nothing\n", "empty"),
        ("- a\n- b\n", "a spec is a mapping"),
        ("just text", "a spec is a mapping"),
        ("a: 1\na: 2\n", "'a' is given twice"),
        ("a: [1\n", "not valid YAML"),
        ("a: 2026-02-31\n", "in quotes"),
        ("? [1]\n: 2\n", "plain value"),
        ("a: !!python/object:os.system x\n", "not valid YAML"),
        ("a: 1\n---\nb: 2\n", "single document"),
        ("a: \x07\n", "not valid YAML"),
        ("[" * 5000, "nested too deeply"),
        (b"\xff\xfe", "not a UTF-8"),
    ],
)
def test_a_file_that_is_no_spec_is_refused_with_its_name(text, says, tmp_path):
    path = write(tmp_path, text)
    with pytest.raises(SpecError) as caught:
        load_spec(path)
    assert says in str(caught.value)


def test_a_folder_and_a_missing_file_cannot_be_read(tmp_path):
    for path in (tmp_path, tmp_path / "none.yaml", Path("a\0b")):
        with pytest.raises(SpecError, match="cannot be read"):
            load_spec(path)


def test_a_problem_in_yaml_has_its_line(tmp_path):
    with pytest.raises(SpecError) as caught:
        load_spec(write(tmp_path, "lineage: a\nlineage: b\n"))
    assert caught.value.problems[0].where.endswith("spec.yaml:2:1")


def test_a_value_that_contains_itself_is_refused(folder):
    with pytest.raises(SpecError):
        load_spec(
            write(folder, "lineage: &x [*x]\nmodel: {name: minilm}\ntune: &y {parameters: *y}\n")
        )


def test_yaml_merges_are_understood(folder):
    text = (
        "lineage: x\nmodel: {name: minilm}\n"
        "tasks:\n  - &one {name: one, train: a.jsonl}\n  - {<<: *one, name: two}\n"
    )
    spec = load_spec(write(folder, text))
    assert [task.name for task in spec.tasks] == ["one", "two"]


def test_numbers_written_without_a_point_are_numbers(folder):
    spec = load_spec(write(folder, yaml.safe_dump(sound()) + "training: {learning_rate: 5e-5}\n"))
    assert spec.training.learning_rate == 5e-5


@pytest.mark.parametrize("path", ["*.jsonl", "sub", "sub/**/*.csv", "od[d].jsonl"])
def test_patterns_and_folders_are_found(path, folder):
    (folder / "sub" / "deep").mkdir(parents=True)
    (folder / "sub" / "deep" / "x.csv").touch()
    (folder / "od[d].jsonl").touch()
    spec = parse_spec(sound(tasks=[{"name": "one", "train": path}]), folder)
    assert spec.tasks[0].train == str(folder / path)


def test_uris_are_left_as_they_are(folder):
    uri = "s3://bucket/train.jsonl"
    spec = parse_spec(sound(tasks=[{"name": "one", "train": uri}]), folder)
    assert spec.tasks[0].train == uri


def test_a_spec_goes_before_its_preset(folder):
    spec = parse_spec(sound(preset="seq_star", training={"num_epochs": 9}), folder)
    assert [method.type for method in spec.methods] == ["freeze", "heads"]
    assert spec.training.num_epochs == 9
    assert spec.training.batch_size == 16


NEEDS = {"mixed_data": ["model.kind=causal_lm", "methods.mixed_data.sources=[a.jsonl]"]}
"""What a preset must be told, as its advice says."""


@pytest.mark.parametrize("name", sorted(path.stem for path in PRESETS_FOLDER.glob("*.yaml")))
def test_each_preset_is_sound_and_says_when_to_choose_it(name, folder):
    changes = parse_changes(NEEDS.get(name, []))
    spec = parse_spec(sound(preset=name), folder, changes)
    assert not stack_problems(spec.methods, spec.scenario, spec.model.kind)
    assert set(read_preset(name)) <= {"methods", "training", "joint", "gate"}
    assert len(preset_advice(name).split()) > 5
    assert PRESETS_FOLDER.joinpath(f"{name}.yaml").read_text().startswith("# ")


def test_presets_are_those_in_the_configs_of_the_project():
    configs = Path(__file__).parents[3] / "configs" / "presets"
    assert preset_names() == sorted(path.stem for path in configs.glob("*.yaml"))
    assert len(preset_names()) >= 11


@pytest.mark.parametrize("path", ["quickstart/protected", "quickstart/plain", "studies/tune"])
def test_the_specs_of_the_project_are_sound(path):
    spec = load_spec(Path(__file__).parents[3] / "configs" / f"{path}.yaml")
    assert not stack_problems(spec.methods, spec.scenario, spec.model.kind)


@pytest.mark.parametrize(
    ("change", "reads"),
    [
        ("training.seed=7", lambda spec: spec.training.seed == 7),
        ("lineage=other", lambda spec: spec.lineage == "other"),
        ("tasks.0.name=first", lambda spec: spec.tasks[0].name == "first"),
        ("tasks.two.name=second", lambda spec: spec.tasks[1].name == "second"),
        ("methods.ewc.strength=5", lambda spec: spec.methods[0].strength == 5),
        ("methods.0.strength=5", lambda spec: spec.methods[0].strength == 5),
        ("methods=[{type: lwf}]", lambda spec: spec.methods[0].type == "lwf"),
        ("training.max_grad_norm=null", lambda spec: spec.training.max_grad_norm is None),
    ],
)
def test_changes_reach_their_field(change, reads, folder):
    raw = sound(methods=[{"type": "ewc"}])
    assert reads(parse_spec(raw, folder, parse_changes([change])))
    assert raw == sound(methods=[{"type": "ewc"}])


def test_changes_reach_into_a_preset(folder):
    changes = parse_changes(["preset=replay_ewc", "methods.ewc.strength=5"])
    assert parse_spec(sound(), folder, changes).methods[1].strength == 5


@pytest.mark.parametrize(
    "change",
    ["seed", "=1", "training.=1", "lineage.x=1", "tasks.9.name=x", "tasks.none.name=x", "seed=[1"],
)
def test_changes_that_lead_nowhere_are_refused(change, folder):
    with pytest.raises(SpecError, match="--set"):
        parse_spec(sound(), folder, parse_changes([change]))


def names_of(model):
    return list(model.model_fields)


FIELDS = sorted(
    {
        *names_of(UpdateSpec),
        *(name for config in METHOD_CONFIGS.values() for name in names_of(config)),
        *(
            name
            for field in UpdateSpec.model_fields.values()
            if hasattr(field.annotation, "model_fields")
            for name in names_of(field.annotation)
        ),
        *METHOD_CONFIGS,
        "name",
        "train",
        "by",
        "x",
    }
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([10**400, -(10**400), 0, 1]),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["a.jsonl", "**", "[", "\0", "\ud800", "~", "class_incremental", "x" * 300]),
    st.sampled_from([*METHOD_CONFIGS, *preset_names()]),
    st.dates(),
    st.binary(max_size=4),
)
KEYS = st.one_of(st.sampled_from(FIELDS), st.text(max_size=5), st.integers(), st.none())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=12,
)


def caught(raw):
    """The error of a spec, or None if it is sound; anything but a SpecError goes through."""
    try:
        parse_spec(raw, Path(__file__).parent)
    except SpecError as error:
        return error
    return None


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(changes=st.dictionaries(st.sampled_from(names_of(UpdateSpec)), VALUES, max_size=5))
def test_whatever_is_in_a_spec_only_a_spec_error_comes_out(changes):
    found = caught(sound() | changes)
    assert found is None or (str(found) and all(problem.message for problem in found.problems))


@settings(max_examples=150)
@given(raw=VALUES)
def test_whatever_a_spec_is_only_a_spec_error_comes_out(raw):
    with pytest.raises(SpecError):
        parse_spec(raw, Path(__file__).parent)


@settings(max_examples=200)
@given(text=st.text(alphabet=st.sampled_from("a:-[]{}&*!?|>'\"# \n\t,1.<\\%@"), max_size=40))
def test_whatever_is_in_a_file_only_a_spec_error_comes_out(text, tmp_path_factory):
    with pytest.raises(SpecError):
        load_spec(write(tmp_path_factory.getbasetemp(), text))
