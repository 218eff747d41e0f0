import io

import pytest
from rich.console import Console

from ratchet.pipelines.spec.tune import TuneSpec
from ratchet.pipelines.tuning.study import Study
from ratchet.service.terminal.study import show_study
from tests.pipelines.tuning.trials import RATE, failed, trial

TUNE = TuneSpec.model_validate({"parameters": {RATE: {"log": [1e-5, 1e-1]}}})


def shown(trials):
    out = Console(file=io.StringIO(), width=120)
    show_study(Study("abc", "tiny", "spec.yaml", TUNE, tuple(trials), 12.0), out)
    return out.file.getvalue()


def test_the_front_is_listed_best_first_and_the_chosen_trial_is_named_with_its_reason():
    text = shown([trial(0, 0.6, 0.1), trial(1, 0.9, 0.2), trial(2, 0.5, 0.3), failed(3)])
    rows = [line.split("│")[1].strip() for line in text.splitlines() if line.startswith("│")]
    assert rows == ["1", "0"]  # trial 2 is beaten in both, trial 3 measured nothing
    assert "90.0" in text
    assert "20.0" in text
    assert "4 trials (3 done, 1 failed) in 12.0 s" in text
    assert "Chosen: trial 1, the highest average accuracy on the front" in text


@pytest.mark.parametrize("trials", [[], [failed(0)]])
def test_a_study_that_found_nothing_says_so(trials):
    assert "No trial finished" in shown(trials)
