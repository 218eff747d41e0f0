"""The OpenAPI document, held against what the API answers to anything."""

import json
import os
import subprocess
import sys

import pytest

from ratchet.service.store.leases import acquire
from tests.service.api.served import listening

TUNE = {"parameters": {"training.learning_rate": {"log": [1.0e-5, 1.0e-3]}}}
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


def _known_values(served):
    """What lies in the database, for parameters that would otherwise name nothing."""
    file_id = served.upload("admin")
    update = served.teach()
    study = served.submit("admin", "/v1/studies", tune=TUNE)
    plan = served.submit("admin", "/v1/plans")
    known = {
        "/v1/(updates|fine_tuning/jobs)/": {"job_id": update},
        "/v1/studies/": {"job_id": study},
        "/v1/plans/": {"job_id": plan},
        "/v1/files/.*content": {"file_id": file_id},
        "/v1/lineages/": {"name": "intents"},
        "/v1/versions/": {"lineage": "intents", "number": 1},
        "/v1/(versions|promotions)$": {"lineage": "intents"},
        "/v1/models/": {"model": "intents@1"},
    }
    return "\n".join(
        f"[[operations]]\ninclude-path-regex = {json.dumps(path)}\n[operations.parameters]\n"
        + "\n".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
        for path, values in known.items()
    )


@pytest.mark.slow
def test_nothing_ends_in_a_failure_or_outside_the_document(served, tmp_path):
    (tmp_path / "schemathesis.toml").write_text(_known_values(served))
    acquire(served.db, "controller", "test", 3600.0)
    with listening(served.app) as url:
        ran = subprocess.run(
            [
                os.path.join(os.path.dirname(sys.executable), "schemathesis"),
                "--config-file",
                "schemathesis.toml",
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

    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]
