import pytest

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.files.yaml_file import parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\na: 2", r"here:2:1: not valid YAML: the key 'a' is given twice"),
        ("a: {b: 1, b: 2}", "the key 'b' is given twice"),
        ("? [a]\n: 1", "a key must be a plain value"),
        ("a: [1", r"here:1:\d+: not valid YAML: "),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("a: 2026-02-31", "Put text that looks like a date or number in quotes"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_no_plain_yaml_is_said_with_its_place(text, said):
    with pytest.raises(SpecError, match=said):
        parse_yaml(text, "here")


def test_merged_keys_may_be_overridden():
    text = "base: &base {a: 1, b: 2}\nown: {<<: *base, b: 3}"
    assert parse_yaml(text, "here")["own"] == {"a": 1, "b": 3}


def test_a_file_is_read_as_utf_8(tmp_path):
    path = tmp_path / "spec.yaml"
    path.write_bytes("name: Größe".encode())
    assert read_yaml(path) == {"name": "Größe"}
    path.write_bytes("name: Größe".encode("latin-1"))
    with pytest.raises(SpecError, match="not a UTF-8 text file"):
        read_yaml(path)
    with pytest.raises(SpecError, match="No such file"):
        read_yaml(tmp_path / "gone.yaml")
