"""Covers, beside `classify`: `errors`."""

import pickle
import subprocess
import sys

import pytest

from ratchet.pipelines.errors import Problem
from ratchet.service.errors import (
    InvalidRequestError,
    OverloadedError,
    UnavailableError,
    problem_document,
)
from ratchet.service.schemas.classify import ClassifyRequest

TORCH_FREE = [
    "ratchet.service.errors",
    "ratchet.service.schemas.classify",
    "ratchet.service.serving.routing",
    "ratchet.service.serving.endpoint",
]


@pytest.mark.parametrize(("given", "texts"), [("one", ["one"]), (["one", "two"], ["one", "two"])])
def test_one_text_is_a_list_of_one(given, texts):
    assert ClassifyRequest(input=given).input == texts


def test_the_schema_shows_both_forms_of_the_input():
    shown = ClassifyRequest.model_json_schema()["properties"]["input"]
    kinds = {choice["type"] for choice in shown["anyOf"]}
    assert kinds == {"string", "array"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (InvalidRequestError("input: none", "input"), "invalid_request_error"),
        (OverloadedError("full"), "rate_limit_error"),
        (UnavailableError("gone"), "server_error"),
    ],
)
def test_an_error_is_a_problem_document_and_openais_error_in_one(error, kind):
    document = problem_document(error, "/v1/classify")
    assert (document["status"], document["detail"]) == (error.status, error.message)
    assert document["error"] == {
        "message": error.message,
        "type": kind,
        "param": error.param,
        "code": error.code,
    }


def test_errors_cross_processes_whole():
    error = InvalidRequestError("input: none", "input", [Problem("input.0", "is empty")])
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InvalidRequestError
    assert (again.message, again.param, again.problems) == ("input: none", "input", error.problems)


def test_what_a_client_needs_loads_neither_torch_nor_ray():
    code = (
        f"import sys; import {', '.join(TORCH_FREE)}; print({{'torch', 'ray'}} & {{*sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
