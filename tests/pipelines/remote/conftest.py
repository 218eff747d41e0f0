import pytest

from pipelines.remote.location import StoreLocation
from pipelines.remote.objects import ObjectStore


@pytest.fixture
def store(bucket):
    """A store below a prefix of a new bucket."""
    return ObjectStore(StoreLocation(bucket, "team/state"))
