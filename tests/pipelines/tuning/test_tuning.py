"""Covers, beside `tuning`: `search.study_run`, `study_name`."""

import pytest

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.registry.home import Home
from ratchet.pipelines.spec.update_spec import spec_as_dict
from ratchet.pipelines.tuning.search.space import RawSpec
from ratchet.pipelines.tuning.search.study_run import Request
from ratchet.pipelines.tuning.tuning import run_study
from tests.tiny_lm import tiny_lm_spec, write_text_task

NO_TIME = {"max_seconds": 1e-9}
LENGTHS = {"parameters": {"training.max_length": {"choice": [24, 32]}}}


def studied(spec, folder):
    request = Request(
        RawSpec(spec_as_dict(spec), folder), "spec.yaml", Home(folder.resolve() / "home", None)
    )
    return run_study(request, lambda _line: None)


def test_what_cuts_raw_text_into_rows_is_not_searched(tiny_decoder, tmp_path):
    texts = [write_text_task(tmp_path, name) for name in ("news", "tales")]
    spec = tiny_lm_spec(tiny_decoder, tmp_path, "lm", texts, [], tune=LENGTHS | NO_TIME)
    with pytest.raises(SpecError, match=r'training\.max_length"\]: raw text is cut into other'):
        studied(spec, tmp_path)


@pytest.mark.parametrize(
    ("ranges", "where"),
    [
        ({"training.num_epochs": {"int": [1, 10**9]}}, r"tune\.num_trials: .*1000000000 points"),
        ({"training.learning_rate": {"log": [1e-5, 1e-3]}}, r"learning_rate.*: .*needs `points`"),
    ],
)
def test_a_grid_without_an_end_is_refused_before_anything_is_written(
    tiny_decoder, tmp_path, ranges, where
):
    tune = {"parameters": ranges, "algorithm": "grid"}
    spec = tiny_lm_spec(tiny_decoder, tmp_path, "lm", ["banking", "home"], [], tune=tune)
    with pytest.raises(SpecError, match=where):
        studied(spec, tmp_path)
    assert not (tmp_path / "home").exists()


def test_the_length_of_prompts_and_completions_may_be_searched(tiny_decoder, tmp_path):
    tasks = ["banking", "home"]
    spec = tiny_lm_spec(tiny_decoder, tmp_path, "lm", tasks, [], tune=LENGTHS | NO_TIME)
    study, _ = studied(spec, tmp_path)
    assert study.trials == ()
