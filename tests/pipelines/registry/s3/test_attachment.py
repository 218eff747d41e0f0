"""Covers, beside `attachment`: `probe`."""

import pytest

from ratchet.pipelines.errors import ObjectStoreError, SpecError, VersionError
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.registry.s3.attachment import attach_object_store, attached_store
from ratchet.pipelines.registry.s3.location import ObjectStoreLocation
from ratchet.pipelines.registry.s3.probe import check_conditions

pytestmark = pytest.mark.slow


def test_a_home_knows_its_store_from_then_on(bucket, tmp_path, s3):
    home = tmp_path / "home"
    assert attached_store(home) is None
    attach_object_store(home, f"s3://{bucket}/state/")
    attach_object_store(home, f"s3://{bucket}/state")
    assert attached_store(home) == ObjectStoreLocation(bucket, "state")
    assert Registry(home).lineages() == []
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0  # the probe is gone


def test_a_home_is_a_copy_of_one_store_only(bucket, tmp_path):
    attach_object_store(tmp_path, f"s3://{bucket}/one")
    with pytest.raises(SpecError, match=r"is a copy of s3://.*/one"):
        attach_object_store(tmp_path, f"s3://{bucket}/two")


def test_a_home_with_versions_of_its_own_is_no_copy(bucket, tmp_path):
    (tmp_path / "versions" / "intents" / "1").mkdir(parents=True)
    with pytest.raises(SpecError, match="versions that are in no store"):
        attach_object_store(tmp_path, f"s3://{bucket}/one")
    assert attached_store(tmp_path) is None


def test_a_store_that_cannot_be_used_is_not_attached(s3, tmp_path):
    with pytest.raises(ObjectStoreError, match="no bucket"):
        attach_object_store(tmp_path, "s3://not-there/x")
    assert attached_store(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{}", '{"format": 2, "store": "s3://b-1/x"}', "[1]"])
def test_a_broken_line_is_said_and_not_passed_over(tmp_path, text):
    (tmp_path / "store.json").write_text(text, encoding="utf-8")
    with pytest.raises(VersionError, match="does not say which store"):
        Registry(tmp_path).lineages()


class Careless:
    """A server that overwrites whatever the condition says."""

    location = ObjectStoreLocation("bucket", "")

    def __init__(self, store):
        self.store = store

    def create(self, key, body):
        self.store.put(key, body)
        return True

    def __getattr__(self, name):
        return getattr(self.store, name)


def test_a_server_that_ignores_conditions_is_refused(store):
    with pytest.raises(ObjectStoreError, match="ignores If-None-Match"):
        check_conditions(Careless(store))
    assert store.names(".probe") == []
