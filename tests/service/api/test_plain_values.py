import json

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.errors import SpecError
from ratchet.service.api.plain_values import check_plain, parse_json, parse_spec_yaml

STORABLE = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | STORABLE,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(STORABLE, inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_whatever_json_can_say_and_a_database_keep_is_read_as_it_is(value):
    assert parse_json(json.dumps(value).encode()) == value


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b'{"a": "x\\u0000"}', "a"),
        (b'{"a": ["\\ud800"]}', "a[0]"),
        (b'{"x\\u0000": 1}', "(name)"),
        (b'{"a": 9223372036854775808}', "a"),
        (b'{"a": 1e999}', "a"),
        (b'{"a": NaN}', ""),
        (b'{"a": -Infinity}', ""),
        (b'{"a": 1, "a": 2}', ""),
        (json.dumps({str(n): n for n in range(100_000)}).encode()[:-1] + b', "9": 0}', ""),
        (b'{"a": ' + b"1" * 5000 + b"}", ""),
        (b"[" * 100_000, ""),
        (b"[" * 40 + b"]" * 40, "[0][0][0][0]"),
        (b"[" + b"0," * 20_001 + b"0]", ""),
        (b'{"a": 1', ""),
        (b"\xff", ""),
        (b"", ""),
    ],
)
def test_what_could_not_be_kept_is_refused_with_its_place(body, where):
    with pytest.raises(SpecError) as caught:
        parse_json(body)

    assert caught.value.problems[0].where == where


def test_all_places_are_told_at_once():
    with pytest.raises(SpecError) as caught:
        parse_json(b'{"a": "\\u0000", "b": {"c": 1e999}, "d": 99999999999999999999}')

    assert [problem.where for problem in caught.value.problems] == ["a", "b.c", "d"]


@pytest.mark.parametrize("text", ["[" * 65_000, "- " * 32_000, "? " * 32_000, "a: [" * 16_000])
def test_yaml_that_only_nests_is_given_up_early(text, monkeypatch):
    seen, parse = [], yaml.parse

    def counted(*args, **kwargs):
        for event in parse(*args, **kwargs):
            seen.append(event)
            yield event

    monkeypatch.setattr(yaml, "parse", counted)
    with pytest.raises(SpecError, match="deeper than 32"):
        parse_spec_yaml(text, "spec_yaml")
    assert len(seen) < 100


def test_yaml_may_be_as_deep_as_json():
    allowed, too_deep = "[" * 33 + "]" * 33, "[" * 34 + "]" * 34
    assert parse_spec_yaml(allowed, "spec_yaml") == parse_json(allowed.encode())
    with pytest.raises(SpecError, match="deeper than 32"):
        parse_json(too_deep.encode())
    with pytest.raises(SpecError, match="deeper than 32"):
        parse_spec_yaml(too_deep, "spec_yaml")


def test_a_long_name_is_not_repeated_in_every_place_below_it():
    with pytest.raises(SpecError) as caught:
        parse_json(json.dumps({"x" * 100_000: ["\0"] * 50}).encode())

    assert len(caught.value.problems) == 50
    assert sum(len(problem.where) for problem in caught.value.problems) < 10_000


def test_the_deepest_value_that_is_allowed_is_read():
    value = "deep"
    for _ in range(32):
        value = [value]

    check_plain(value)
    with pytest.raises(SpecError, match="deeper than 32"):
        check_plain([value])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &x [1]\nb: *x", "aliases are not read"),
        ("a: &a {<<: *a}", "aliases are not read"),
        ("a: !!python/object/apply:os.system [ls]", "not valid YAML"),
        ("a: !!binary aGVsbG8=", "a spec cannot hold a bytes"),
        ("a: 2026-01-01", "a spec cannot hold a date"),
        ("a: !!set {x}", "a spec cannot hold a set"),
        ("a: .nan", "finite"),
        ("1: x", "a field's name is text"),
        ("a: 'x\\0'\nb: \"\\0\"", "NUL"),
        ("a: b: c", "not valid YAML"),
        ("a: 1\na: 2", "given twice"),
        ("[" * 50 + "]" * 50, "nested"),
        ("a: " + "x" * 70_000, "longer than"),
    ],
)
def test_yaml_that_builds_grows_or_cannot_be_kept_is_refused(text, reason):
    with pytest.raises(SpecError, match=reason):
        parse_spec_yaml(text, "spec_yaml")


def test_a_bomb_of_aliases_is_refused_at_once():
    lines = ["a0: &a0 [x, x]"] + [
        f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]" for n in range(1, 60)
    ]

    with pytest.raises(SpecError, match="aliases"):
        parse_spec_yaml("\n".join(lines), "spec_yaml")


def test_plain_yaml_is_read():
    assert parse_spec_yaml("a: {b: [1, 2.5, x, null]}", "spec_yaml") == {
        "a": {"b": [1, 2.5, "x", None]}
    }
