"""What changes weights when a task ends says so: what others keep is of weights that are kept."""

import pytest
import torch

from tests.conformance.claims import row_of
from tests.conformance.streams import SETTINGS, name_of, plan_of, problems_of, teacher_of
from tests.conformance.test_language_models import language_plan

VARIANTS = [{"type": "columns", "width": 0.5, "max_laterals": 1}]
ROWS = [*map(row_of, SETTINGS), *VARIANTS]


def changed_at_the_end(plan):
    """Types of the methods whose `end_task` left other weights than it found, and of the others."""
    teacher = teacher_of(plan)
    changed, looked = set(), set()

    def watched(kind, end_task):
        def ending(ctx):
            before = {n: t.clone() for n, t in teacher.model.state_dict().items()}
            end_task(ctx)
            after = teacher.model.state_dict()
            same = before.keys() == after.keys()
            if not same or any(not torch.equal(before[name], after[name]) for name in before):
                changed.add(kind)
            looked.add(kind)

        return ending

    for kind, method in teacher.stack.methods.items():
        method.end_task = watched(kind, method.end_task)
    teacher.run()
    claimed = {kind for kind in looked if teacher.stack.methods[kind].settles_weights}
    return changed, claimed


@pytest.mark.parametrize(
    "row", [r for r in ROWS if not problems_of([r])], ids=lambda r: name_of([r])
)
def test_a_method_that_changes_weights_when_a_task_ends_says_so(tiny_model, tmp_path, row):
    tasks = ("banking", "home", "kitchen")
    changed, claimed = changed_at_the_end(plan_of(tiny_model, tmp_path, [row], tasks))
    assert changed <= claimed, "set settles_weights = True on it: what others keep would be stale"
    if row["type"] != "columns" or row in VARIANTS:  # without a limit nothing is pruned
        assert changed == claimed


@pytest.mark.parametrize(
    "row",
    [r for r in ROWS if not problems_of([r], kind="causal_lm") and r["type"] != "columns"],
    ids=lambda r: name_of([r]),
)
@pytest.mark.filterwarnings("ignore:generative")
def test_it_says_so_on_a_language_model_too(tiny_decoder, tmp_path, row):
    changed, claimed = changed_at_the_end(language_plan(tiny_decoder, tmp_path, [row]))
    assert changed == claimed
