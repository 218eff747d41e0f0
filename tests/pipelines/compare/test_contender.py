import pytest

from ratchet.pipelines.compare.contender import contenders
from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.spec.presets import read_preset


def test_a_preset_stands_before_the_method_of_its_name():
    (found,) = contenders(["ewc"])
    assert list(found.methods) == read_preset("ewc")["methods"]
    assert found.training == read_preset("ewc")["training"]


def test_a_method_without_a_preset_comes_with_its_defaults():
    (found,) = contenders(["heads"])
    assert (found.methods, found.training, found.joint) == (({"type": "heads"},), {}, False)


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("finetune", "baseline"),
        ("joint", "baseline"),
        ("analytic", "isolation"),
        ("replay_ewc", "combined"),
    ],
)
def test_the_family_is_of_the_methods(name, family):
    assert contenders([name])[0].family == family


def test_a_file_is_a_contender_called_by_its_stem(tmp_path):
    path = tmp_path / "gentle.yaml"
    path.write_text("methods: [{type: ewc, strength: 3}]\ntraining: {num_epochs: 2}\n")
    (found,) = contenders([str(path)])
    assert found.name == "gentle"
    assert list(found.methods) == [{"type": "ewc", "strength": 3}]
    assert found.training == {"num_epochs": 2}


def test_a_file_may_not_set_what_a_comparison_fixes(tmp_path):
    path = tmp_path / "odd.yaml"
    path.write_text("methods: []\ntasks: []\n")
    with pytest.raises(SpecError, match=r"odd\.tasks"):
        contenders([str(path)])


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("methods: [ewc]", "methods"),
        ("methods: {type: ewc}", "methods"),
        ("methods: ewc", "methods"),
        ("methods: 5", "methods"),
        ("training: [1]", "training"),
        ("training: fast", "training"),
        ("joint: perhaps", "joint"),
    ],
)
def test_a_file_with_a_wrong_value_is_refused_by_field(tmp_path, text, where):
    path = tmp_path / "odd.yaml"
    path.write_text(text + "\n")
    with pytest.raises(SpecError, match=rf"odd\.{where}: should be"):
        contenders([str(path)])


def test_every_unknown_name_is_told_with_the_nearest():
    with pytest.raises(
        SpecError, match=r"(?s)2 problems.*Did you mean 'replay'.*'nothing_like_it'"
    ):
        contenders(["repley", "nothing_like_it"])


def test_a_name_given_twice_runs_once():
    assert [own.name for own in contenders(["ewc", "finetune", "ewc"])] == ["ewc", "finetune"]


def test_the_seed_reaches_the_methods_own_random_choices():
    (found,) = contenders(["analytic"])
    assert found.with_seed(4) == [{"type": "analytic", "projection_seed": 4}]
    (other,) = contenders(["ewc"])
    assert other.with_seed(4) == read_preset("ewc")["methods"]
