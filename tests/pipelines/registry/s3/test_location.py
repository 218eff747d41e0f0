import pytest

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.registry.s3.location import ObjectStoreLocation


@pytest.mark.parametrize(
    ("uri", "bucket", "prefix", "key", "shown"),
    [
        ("s3://b-1", "b-1", "", "versions/x", "s3://b-1"),
        ("s3://bucket/", "bucket", "", "versions/x", "s3://bucket"),
        ("s3://bucket/a", "bucket", "a", "a/versions/x", "s3://bucket/a"),
        ("s3://bucket/a//b/", "bucket", "a/b", "a/b/versions/x", "s3://bucket/a/b"),
    ],
)
def test_a_uri_names_a_bucket_and_a_prefix(uri, bucket, prefix, key, shown):
    location = ObjectStoreLocation.parse(uri)
    assert (location.bucket, location.prefix) == (bucket, prefix)
    assert location.key("versions", "x") == key
    assert str(location) == shown


@pytest.mark.parametrize(
    "uri", ["", "bucket", "gs://bucket/x", "s3://", "s3:///x", "s3://B_ucket", "s3://bucket/../x"]
)
def test_anything_else_is_refused_with_what_is_allowed(uri):
    with pytest.raises(SpecError, match="s3://BUCKET/PREFIX"):
        ObjectStoreLocation.parse(uri)


def test_credentials_in_a_uri_are_refused_and_not_repeated():
    with pytest.raises(SpecError) as raised:
        ObjectStoreLocation.parse("s3://AKIAKEY:verysecret@bucket/prefix")
    assert "AWS_SECRET_ACCESS_KEY" in str(raised.value)
    assert "verysecret" not in str(raised.value)
