"""Everything that is no request of ours ends in a problem document."""

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.pipelines.spec.problems import path_of
from ratchet.service.errors import json_pointer

TUNED = "#/spec/tune/parameters/training.learning_rate/log/1"
LEFT_OPEN = b'{"spec": '


@pytest.mark.parametrize(
    ("where", "pointer"),
    [
        ("", "#"),
        ("lineage", "#/lineage"),
        ("spec.methods[1].strength", "#/spec/methods/1/strength"),
        ("a/b~c", "#/a~1b~0c"),
        ("a b%", "#/a%20b%25"),
        ('spec.tune.parameters["training.learning_rate"].log[1]', TUNED),
        ('metadata["a/b.c~[0]"]', "#/metadata/a~1b.c~0%5B0%5D"),
        (r'metadata["a.\"\\x"]', "#/metadata/a.%22%5Cx"),
        ('metadata[""]', "#/metadata/"),
    ],
)
def test_a_path_becomes_a_pointer(where, pointer):
    assert json_pointer(where) == pointer


@given(st.lists(st.one_of(st.text(alphabet='a.[]"\\/~%0 \n€'), st.integers(0, 99))))
def test_the_pointer_of_any_field_leads_back_to_it(location):
    steps = json_pointer(path_of(location)).split("/")[1:]

    found = [unquote(step).replace("~1", "/").replace("~0", "~") for step in steps]
    assert found == [str(part) for part in location]


@pytest.mark.parametrize(
    ("method", "path", "content", "kind", "status"),
    [
        ("GET", "/v1/nothing", None, None, 404),
        ("GET", "/", None, None, 404),
        ("DELETE", "/v1/updates", None, None, 405),
        ("PUT", "/v1/updates/x", None, None, 405),
        ("DELETE", "/v1/models/minilm", None, None, 405),
        ("BREW", "/v1/updates", None, None, 405),
        ("GET", "/v1/updates/%00", None, None, 400),
        ("GET", "/v1/updates?after=%00", None, None, 400),
        ("GET", "/v1/updates?lineage=%ff%fe", None, None, 200),
        ("GET", "/v1/lineages/%ed%a0%80", None, None, 404),
        ("GET", "/v1/updates/" + "x" * 5000, None, None, 400),
        ("GET", "/v1/files/..%2f..%2fetc%2fpasswd", None, None, 404),
        ("GET", "/v1/files/../../etc/passwd/content", None, None, 404),
        ("POST", "/v1/updates", b"{}", None, 415),
        ("POST", "/v1/updates", b"{}", "text/plain", 415),
        ("POST", "/v1/updates", b"{}", "application/x-www-form-urlencoded", 415),
        ("POST", "/v1/updates", b"a: 1", "application/yaml", 415),
        ("POST", "/v1/files", b"{}", "application/json", 415),
        ("POST", "/v1/updates", b"", "application/json", 400),
        ("POST", "/v1/updates", b"null", "application/json", 400),
        ("POST", "/v1/updates", LEFT_OPEN, "application/json", 400),
        ("POST", "/v1/updates", b"\xff\xfe", "application/json", 400),
        ("POST", "/v1/updates", b'{"spec": {"a": NaN}}', "application/json", 400),
        ("POST", "/v1/updates", b'{"spec": {"a": "\\u0000"}}', "application/json", 400),
        ("POST", "/v1/updates", b'{"spec": {"a": "\\udc00"}}', "application/json", 400),
        ("POST", "/v1/updates", b'{"spec": {"a": %s}}' % (b"9" * 30), "application/json", 400),
        ("POST", "/v1/updates", b'{"spec": {"a": %s}}' % (b"9" * 9999), "application/json", 400),
        ("POST", "/v1/updates", b'{"spec": ' + b"[" * 200_000, "application/json", 400),
        ("POST", "/v1/updates", b'{"spec": "' + b"x" * 2**20 + b'"}', "application/json", 413),
        ("POST", "/v1/promotions", b'{"lineage": "\\ud800"}', "application/json", 400),
        ("POST", "/v1/updates", b'{"spec": {}}', "application/problem+json; charset=utf-8", 422),
    ],
)
def test_a_broken_request_is_refused_cleanly(served, method, path, content, kind, status):
    headers = {} if kind is None else {"Content-Type": kind}
    with served.client("promoter") as client:
        response = client.request(method, path, content=content, headers=headers)

    assert response.status_code == status, response.text
    if status == 200:
        return
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["type"] == f"urn:ratchet:error:{body['error']['code']}"
    if status == 405:
        assert response.headers["allow"]
