"""The OpenAPI document, held against what the API answers to anything."""

import os
import subprocess
import sys

import pytest

from tests.service.api.served import listening

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)


def test_every_route_is_documented_with_its_refusals(served):
    document = served.app.openapi()

    operations = [
        (path, method, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    assert len(operations) > 40
    undocumented = [
        (path, method) for path, method, one in operations if "4XX" not in one["responses"]
    ]
    unsecured = [
        path for path, _, one in operations if path.startswith("/v1/") and "security" not in one
    ]
    assert undocumented == []
    assert unsecured == []
    assert len({one["operationId"] for _, _, one in operations}) == len(operations)


@pytest.mark.slow
def test_nothing_ends_in_a_failure_or_outside_the_document(served, tmp_path):
    served.upload("admin")
    served.teach()
    served.submit("admin", lineage="intents-2")
    with listening(served.app) as url:
        ran = subprocess.run(
            [
                os.path.join(os.path.dirname(sys.executable), "schemathesis"),
                "run",
                f"{url}/openapi.json",
                "--header",
                f"Authorization: Bearer {served.secrets['admin']}",
                "--checks",
                ",".join(CHECKS),
                "--phases",
                "examples,coverage,fuzzing,stateful",
                "--seed",
                "20261122",
                "--max-examples",
                "15",
                "--generation-database",
                "none",
                "--request-timeout",
                "20",
                "--no-color",
            ],
            capture_output=True,
            text=True,
            timeout=900,
            cwd=tmp_path,
        )

    print(ran.stdout)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
