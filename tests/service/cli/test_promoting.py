"""Covers `versions`: promoting by hand, and what a person answers for with it."""

import json

import pytest
import yaml

from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.version import WEIGHTS_FILE
from tests.service.cli.test_updates import call
from tests.tiny import TASKS, write_task


@pytest.fixture(scope="module")
def refused(tiny_model, tmp_path_factory):
    """A home whose second version the gate refused: it lost the first task, as served."""
    folder = tmp_path_factory.mktemp("refused")
    for task in ("banking", "home"):
        spec = {
            "lineage": "tiny",
            "model": {"name": str(tiny_model)},
            "tasks": [write_task(folder / "data", task, TASKS[task])],
            "gate": {"max_forgetting": 1.0},
            "routing": {"answer_by": "heads"},
            "training": {
                "num_epochs": 12,
                "learning_rate": 3e-3,
                "batch_size": 16,
                "max_length": 24,
            },
        }
        path = folder / f"{task}.yaml"
        path.write_text(yaml.safe_dump(spec), encoding="utf-8")
        done = call("run", path, "--home", folder / "home", "--json")
        assert done.exit_code == (0 if task == "banking" else 4), done.stderr
    return folder / "home", json.loads(done.stdout)


def test_a_refusal_says_what_was_lost_as_served(refused):
    home, result = refused
    assert result["gate"]["headline"].startswith("Served worse: banking")
    assert Registry(home).champion("tiny") == 1


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--accept-loss", "banking=0.9"], "Say with --reason why"),
        (["--accept-loss", "banking", "--reason", "x"], "should be TASK=SHARE"),
        (["--accept-loss", "banking=9", "--reason", "x"], "should be TASK=SHARE"),
        (["--accept-loss", "=0.5", "--reason", "x"], "should be TASK=SHARE"),
        (["--accept-loss", "banking=0.01", "--reason", "x"], "more was lost: banking"),
        (["--accept-loss", "bankin=0.9", "--reason", "x"], "Did you mean 'banking'?"),
    ],
)
def test_what_is_wrong_with_an_accepted_loss_is_said_and_nothing_is_promoted(
    refused, options, words
):
    home, _ = refused
    done = call("promote", "tiny@2", "--home", home, *options)
    assert done.exit_code == 2
    assert words in " ".join(done.stderr.split())
    assert Registry(home).champion("tiny") == 1


def test_an_accepted_loss_is_promoted_and_noted(refused):
    home, _ = refused
    accepted = ["--accept-loss", "banking=1.0", "--reason", "the branch was closed"]
    done = call("promote", "tiny@2", "--home", home, *accepted, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout) == {"lineage": "tiny", "champion": 2, "previous": 1}
    noted = Registry(home).aliases("tiny").by_hand[2]
    assert (noted.accepted, noted.reason, noted.checked) == (
        {"banking": 1.0},
        "the branch was closed",
        True,
    )
    assert call("rollback", "tiny", "--home", home).exit_code == 0
    assert Registry(home).aliases("tiny").by_hand[2] == noted


def test_a_version_that_does_not_load_is_not_promoted_unless_unchecked(refused):
    home, _ = refused
    weights = Registry(home).path("tiny", 2) / WEIGHTS_FILE
    whole = weights.read_bytes()
    weights.write_bytes(b"nothing")
    try:
        done = call("promote", "tiny@2", "--home", home)
        assert done.exit_code not in (0, 4)
        assert WEIGHTS_FILE in done.stderr
        assert Registry(home).champion("tiny") == 1
        assert call("promote", "tiny@2", "--home", home, "--unchecked").exit_code == 0
    finally:
        weights.write_bytes(whole)
    assert Registry(home).aliases("tiny").by_hand[2].checked is False
    assert call("rollback", "tiny", "--home", home).exit_code == 0
