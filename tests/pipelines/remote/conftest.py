import uuid

import boto3
import pytest

from pipelines.remote.location import StoreLocation
from pipelines.remote.objects import ObjectStore
from tests.s3_server import CREDENTIALS, s3_server


@pytest.fixture(scope="session")
def s3_endpoint(tmp_path_factory):
    """The address of an S3 server that runs as long as the tests."""
    with s3_server(tmp_path_factory.mktemp("s3") / "server.log") as endpoint:
        yield endpoint


@pytest.fixture
def s3(s3_endpoint, monkeypatch):
    """The usual variables, set for that server; gives a client of it."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": s3_endpoint}.items():
        monkeypatch.setenv(name, value)
    return boto3.client("s3")


@pytest.fixture
def bucket(s3):
    """The name of a new bucket."""
    name = f"ratchet-{uuid.uuid4().hex[:12]}"
    s3.create_bucket(Bucket=name)
    return name


@pytest.fixture
def store(bucket):
    """A store below a prefix of a new bucket."""
    return ObjectStore(StoreLocation(bucket, "team/state"))
