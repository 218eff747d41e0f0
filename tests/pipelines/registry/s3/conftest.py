import pytest

from ratchet.pipelines.registry.s3.location import ObjectStoreLocation
from ratchet.pipelines.registry.s3.objects import ObjectStore


@pytest.fixture
def store(bucket):
    """A store below a prefix of a new bucket."""
    return ObjectStore(ObjectStoreLocation(bucket, "team/state"))
