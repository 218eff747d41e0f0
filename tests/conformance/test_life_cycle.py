"""Every method from a spec to a version, to a second version from it, measured and asked."""

import pytest

from ratchet.pipelines.answering.continuation import Continuation
from ratchet.pipelines.answering.predict import predict
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.update.evaluate import evaluate_version
from tests.conformance.streams import SETTINGS, problems_of
from tests.tiny import TASKS, teach, texts_of, tiny_spec
from tests.tiny_lm import tiny_lm_spec

SPECS = {"classifier": tiny_spec, "causal_lm": tiny_lm_spec}
CASES = [
    (kind, name)
    for kind in SPECS
    for name in SETTINGS
    if not problems_of([{"type": name, **SETTINGS[name]}], kind=kind)
]


@pytest.fixture
def model_of(request):
    """The tiny model of a kind; only the one that is asked for is made."""
    names = {"classifier": "tiny_model", "causal_lm": "tiny_decoder"}
    return lambda kind: request.getfixturevalue(names[kind])


def prompts_of(kind):
    ending = " =" if kind == "causal_lm" else ""
    return [text + ending for text in texts_of("weather", 2) + texts_of("balance", 2)]


def answer_of(row):
    """The task that answered and its answer."""
    return row.task, row.completion if isinstance(row, Continuation) else row.label


@pytest.mark.parametrize(("kind", "name"), CASES, ids=["-".join(case) for case in CASES])
def test_a_second_version_keeps_the_first_ones_tasks_and_both_are_measured_and_answer(
    kind, name, model_of, tmp_path
):
    home, methods = tmp_path / "home", [{"type": name, **SETTINGS[name]}]
    sections = {
        "training": {"num_epochs": 1},
        "scaling": {"num_workers": 0},
        "evaluation": {"max_new_tokens": 4} if kind == "causal_lm" else {},
    }
    rows = (tmp_path / "rows").resolve()
    specs = [
        SPECS[kind](model_of(kind), rows, "all", list(tasks), methods, **sections)
        for tasks in (("banking", "home"), ("kitchen",))
    ]
    one, two = (teach(home, spec) for spec in specs)
    assert (one["version"], two["version"]) == (1, 2)
    assert two["tasks"] == list(TASKS)
    assert two["accuracy_matrix"][:2] == [[*row, None] for row in one["accuracy_matrix"]]
    registry = Registry(home, None)
    for version, spec, result in zip((1, 2), specs, (one, two), strict=True):
        measured = evaluate_version(spec, registry.path("all", version))["scores"]
        last = dict(zip(result["tasks"], result["accuracy_matrix"][-1], strict=True))
        for task, scores in measured.items():
            assert scores["test"]["without_task_id"] == pytest.approx(last[task], abs=1e-6)
    prompts = prompts_of(kind)
    for reference in ("all@1", "all@2"):
        alone = [predict(home, reference, [prompt])[0] for prompt in prompts]
        together = predict(home, reference, prompts)
        assert len(together) == len(prompts)
        assert [answer_of(row) for row in together] == [answer_of(row) for row in alone]
        assert {answer_of(row)[0] for row in predict(home, reference, prompts, "home")} == {"home"}
