import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.service.errors import InvalidRequestError, UnknownModelError
from ratchet.service.serving.routing import LineageView, Target, resolve

DESK = LineageView("desk", 2, 3, {1: ["it"], 2: ["it", "travel"], 3: ["it", "travel", "legal"]})
SHOP = LineageView("shop", 1, None, {1: ["orders", "travel"]})


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("auto", Target("desk", None, None)),
        ("desk", Target("desk", None, None)),
        ("desk/auto", Target("desk", None, None)),
        ("it", Target("desk", None, "it")),
        ("desk/it", Target("desk", None, "it")),
        ("it@champion", Target("desk", None, "it")),
        ("it@1", Target("desk", 1, "it")),
        ("auto@1", Target("desk", 1, None)),
        ("desk@1", Target("desk", 1, None)),
        ("desk@challenger", Target("desk", 3, None)),
        ("legal@3", Target("desk", 3, "legal")),
        ("legal@challenger", Target("desk", 3, "legal")),
        ("desk/legal@3", Target("desk", 3, "legal")),
    ],
)
def test_names_of_one_lineage(model, target):
    assert resolve(model, [DESK]) == target


@pytest.mark.parametrize(
    ("model", "target"),
    [
        ("shop", Target("shop", None, None)),
        ("orders", Target("shop", None, "orders")),
        ("shop/travel", Target("shop", None, "travel")),
        ("desk/travel@2", Target("desk", 2, "travel")),
        ("shop/auto@1", Target("shop", 1, None)),
    ],
)
def test_names_among_two_lineages(model, target):
    assert resolve(model, [DESK, SHOP]) == target


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("auto", "name one of desk/auto, shop/auto"),
        ("travel", "name one of desk/travel, shop/travel"),
    ],
)
def test_what_two_lineages_answer_to_must_be_made_clear(model, said):
    with pytest.raises(InvalidRequestError, match=said) as caught:
        resolve(model, [DESK, SHOP])
    assert caught.value.param == "model"


def test_a_task_stands_before_a_lineage_of_the_same_name():
    view = LineageView("it", 1, None, {1: ["it", "travel"]})
    assert resolve("it", [view]) == Target("it", None, "it")
    assert resolve("it/auto", [view]) == Target("it", None, None)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("travle", "did you mean travel"),
        ("legal", "served here: auto, desk, it, travel"),
        ("legal@1", "version 1 of desk has only it"),
        ("it@4", "allowed: champion, challenger, 1, 2, 3"),
        ("it@²", "names the version '²'"),
        ("it@01x", "names the version '01x'"),
        ("shop/it", "did you mean it"),
        ("/it", "did you mean it"),
        ("@", "served here"),
        ("desk/", "served here"),
        ("desk/legal", "served here"),
    ],
)
def test_unknown_names_get_the_nearest_known_ones(model, said):
    with pytest.raises(UnknownModelError, match=said) as caught:
        resolve(model, [DESK])
    assert caught.value.param == "model"


@given(st.text(alphabet="desk/auto@123it ", max_size=12), st.booleans())
def test_any_name_gives_a_target_that_exists_or_an_error_for_the_client(model, both):
    views = {view.name: view for view in ([DESK, SHOP] if both else [DESK])}
    try:
        target = resolve(model, list(views.values()))
    except (InvalidRequestError, UnknownModelError):
        return
    view = views[target.lineage]
    known = view.tasks[view.serving if target.version is None else target.version]
    assert target.task is None or target.task in known
