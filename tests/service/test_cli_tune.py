import pytest
import yaml

from tests.service.test_cli_run import call
from tests.tiny import TASKS, write_task

SPACE = {"training.learning_rate": {"log": [1e-4, 1e-2], "points": 2}}


@pytest.fixture
def spec_of(tiny_model, tmp_path):
    """Writes a spec with a `tune` section, or none."""

    def write(tune, **sections):
        raw = {
            "lineage": "tiny",
            "model": {"name": str(tiny_model)},
            "tasks": [write_task(tmp_path / "rows", name, TASKS[name]) for name in TASKS],
            "methods": [{"type": "ewc"}],
            "training": {"num_epochs": 1, "batch_size": 16, "max_length": 24},
            "tune": tune,
            **sections,
        }
        path = tmp_path / "spec.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in raw.items() if v is not None}))
        return str(path)

    return write


def said(done):
    return " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("tune", "sections", "expected"),
    [
        (None, {}, "the spec says nothing about what to search"),
        ({"parameters": {"training.learning_rat": {"log": [1, 2]}}}, {}, "'learning_rate'?"),
        ({"parameters": {"methods.mas.strength": {"log": [1, 2]}}}, {}, "no such item"),
        ({"parameters": SPACE, "algorithm": "bohb"}, {}, "tune.algorithm"),
        ({"parameters": {}}, {}, "tune.parameters"),
        ({"parameters": SPACE}, {"joint": True, "methods": []}, "neither plasticity nor stability"),
        (
            {"parameters": SPACE, "early_stopping": "asha"},
            {"scaling": {"num_workers": 2}},
            "reports only at its end",
        ),
        (
            {"parameters": {"training.learning_rate": {"log": [1e-4, 1e-2]}}, "algorithm": "grid"},
            {},
            "needs `points`",
        ),
        (
            {"parameters": {"training.num_epochs": {"int": [1, 2]}}, "strategy": "stability_decay"},
            {},
            "learning rate and strengths",
        ),
    ],
)
def test_a_study_that_cannot_be_is_refused_before_anything_is_taught(
    spec_of, tmp_path, tune, sections, expected
):
    done = call("tune", spec_of(tune, **sections), "--home", str(tmp_path / "home"))
    assert done.exit_code == 2
    assert expected in said(done)
    assert not list(tmp_path.glob("home/studies/*/*/trials"))


def test_there_must_be_something_to_resume(spec_of, tmp_path):
    done = call(
        "tune", spec_of({"parameters": SPACE}), "--resume", "--home", str(tmp_path / "home")
    )
    assert done.exit_code == 3
    assert "no study of this spec was begun" in said(done)
