"""What a config claims has a test, or fails with words that say what to add."""

from typing import ClassVar, Literal

import pytest

from ratchet.pipelines.spec.methods import METHOD_CONFIGS, MethodConfig
from ratchet.pipelines.spec.methods.replay import ReplayConfig
from tests.conformance.claims import isolating, missing, zeros
from tests.conformance.streams import SETTINGS


class Invented(ReplayConfig):
    """A method whose claims are taken at their word."""

    type: Literal["invented"] = "invented"


class Chooses(Invented):
    idle_in_first_task: ClassVar[frozenset[str]] = frozenset(("selection",))


class NeverOff(Invented):
    off_at_zero: ClassVar[frozenset[str]] = frozenset()


class RefusesItsZero(Invented):
    off_at_zero: ClassVar[frozenset[str]] = frozenset(("every_steps",))


class NeedsData(Invented):
    uri_fields: ClassVar[tuple[str, ...]] = ("sources",)
    sources: tuple[str, ...] = ()


@pytest.mark.parametrize("config", METHOD_CONFIGS.values(), ids=METHOD_CONFIGS)
def test_every_claim_has_a_test(config):
    assert missing(config) == []


def test_no_row_is_of_a_method_that_is_gone():
    assert SETTINGS.keys() <= METHOD_CONFIGS.keys()


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (Chooses, "add one under ('invented', 'selection') to OTHER_VALUES"),
        (NeverOff, "NeverOff does not say where it is plain fine-tuning: name a field"),
        (RefusesItsZero, "RefusesItsZero claims that every_steps 0 switches it off, and refuses 0"),
        (NeedsData, "NeedsData claims kinds classifier, and its row is refused there"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_claim_without_a_test_says_what_to_add(config, words):
    found = missing(config, {"invented": {}})
    assert any(words in sentence for sentence in found), found


def test_a_method_without_a_row_says_where_it_belongs():
    (found,) = missing(Invented, {})
    assert found.startswith("invented has no row")
    assert "SETTINGS in tests/conformance/streams.py" in found
    assert missing(Invented, {"invented": {}}) == []


def test_a_claim_about_a_field_that_is_not_there_is_refused_at_once():
    with pytest.raises(TypeError, match=r"Misspelled\.off_at_zero: there is no field strenght"):

        class Misspelled(MethodConfig):
            off_at_zero: ClassVar[frozenset[str]] = frozenset(("strenght",))


def test_the_rows_that_follow_from_claims_are_there():
    assert {"type": "replay", "capacity": 0, "fraction": 0.3} in zeros()
    assert {"type": "ewc", "strength": 0} in zeros()
    assert {"type": "lora", "rank": 2, "dropout": 0.1, "per_task": True} in isolating()
    assert "ewc" not in {one["type"] for one in isolating()}
