"""Covers, beside `objects`: `faults`."""

import os
import pickle
import threading

import pytest

from ratchet.pipelines.errors import ObjectStoreError, ObjectStoreUnreachableError
from ratchet.pipelines.registry.s3.location import ObjectStoreLocation
from ratchet.pipelines.registry.s3.objects import Found, ObjectStore
from tests.faulty_proxy import FaultyProxy
from tests.s3_server import CREDENTIALS
from tests.waiting import free_port

pytestmark = pytest.mark.slow


def test_an_object_that_was_created_is_not_overwritten(store):
    assert store.create("a/b", b"mine")
    assert not store.create("a/b", b"theirs")
    assert store.read("a/b").body == b"mine"


def test_creating_the_same_again_is_no_conflict(store):
    """A request whose answer got lost is repeated by the client."""
    assert store.create("a", b"mine")
    assert store.create("a", b"mine")


def test_an_object_is_replaced_only_by_who_read_it_last(store):
    assert store.replace("a", b"1", None)
    first = store.read("a")
    assert store.replace("a", b"2", first)
    assert not store.replace("a", b"3", first)
    assert not store.replace("a", b"3", None)
    assert store.read("a").body == b"2"


def test_what_is_gone_is_not_replaced(store):
    store.put("a", b"1")
    found = store.read("a")
    store.delete("", ["a"])
    assert store.read("a") is None
    assert not store.replace("a", b"2", found)


def test_of_many_that_create_at_once_one_wins(store):
    start, won = threading.Barrier(8), []

    def create(content):
        start.wait()
        if store.create("a", content):
            won.append(content)

    threads = [threading.Thread(target=create, args=(b"%d" % n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [store.read("a").body]


def test_names_and_folders_are_relative_and_paged(store):
    for name in ("z/1/a", "z/1/b", "z/2/a", "z2/x"):
        store.put(name, b"")
    assert store.names("z") == ["1/a", "1/b", "2/a"]
    assert store.folders("z") == ["1", "2"]
    store.delete("z", ["1/a", "2/a", "never"])
    assert store.names("z") == ["1/b"]
    assert store.names("nothing") == []


def test_more_names_than_one_page_holds(store, s3):
    for number in range(1003):
        s3.put_object(Bucket=store.location.bucket, Key=store.location.key("many", number))
    assert len(store.names("many")) == 1003
    store.delete("many", store.names("many"))
    assert store.names("many") == []


def test_a_large_file_goes_in_parts_and_comes_back(store, tmp_path, s3):
    path = tmp_path / "large"
    path.write_bytes(os.urandom(9 * 2**20))
    store.upload(path, "large")
    tag = s3.head_object(Bucket=store.location.bucket, Key=store.location.key("large"))["ETag"]
    assert tag.endswith('-2"')  # two parts
    assert store.download("large", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == path.read_bytes()
    assert not store.download("none", tmp_path / "other")


def test_a_bucket_that_is_not_there(s3):
    store = ObjectStore(ObjectStoreLocation("no-such-bucket", "x"))
    for ask in (lambda: store.names("a"), lambda: store.create("a", b""), lambda: store.read("a")):
        with pytest.raises(ObjectStoreError, match="no bucket 'no-such-bucket'") as raised:
            ask()
        assert not isinstance(raised.value, ObjectStoreUnreachableError)


def test_credentials_that_are_missing(s3, bucket, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(ObjectStoreError, match="no credentials were found"):
        ObjectStore(ObjectStoreLocation(bucket, "")).read("a")


def test_an_endpoint_that_nobody_answers_at(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://user:pass-word@127.0.0.1:{free_port()}")
    store = ObjectStore(ObjectStoreLocation("bucket", "x"))
    with pytest.raises(ObjectStoreUnreachableError, match="cannot be reached") as raised:
        store.read("a")
    message = str(raised.value)
    assert "pass-word" not in message
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in message
    assert str(pickle.loads(pickle.dumps(raised.value))) == message


@pytest.fixture
def behind_proxy(s3_endpoint, bucket, monkeypatch):
    """A store that is reached through a proxy, and the proxy."""
    with FaultyProxy(s3_endpoint) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield ObjectStore(ObjectStoreLocation(bucket, "x")), proxy


@pytest.mark.parametrize("faults", [["busy"], ["busy", "busy"], ["lost"], ["lost", "busy"]])
def test_a_fault_that_passes_is_not_noticed(behind_proxy, faults):
    store, proxy = behind_proxy
    proxy.faults.extend(faults)
    assert store.create("a", b"mine")
    assert not proxy.faults
    assert store.read("a").body == b"mine"


def test_a_replacement_whose_answer_got_lost_has_happened_once(behind_proxy, bucket):
    store, proxy = behind_proxy
    store.put("a", b"1")
    found = store.read("a")
    fresh = ObjectStore(ObjectStoreLocation(bucket, "x"))  # with no connection yet
    proxy.faults.append("lost")
    assert fresh.replace("a", b"2", found)
    assert not proxy.faults
    assert store.read("a").body == b"2"


def test_a_server_that_stays_busy_is_unreachable(behind_proxy):
    store, proxy = behind_proxy
    proxy.faults.extend(["busy"] * 20)
    with pytest.raises(ObjectStoreUnreachableError, match="503"):
        store.read("a")


def test_nothing_shows_the_secret(store):
    assert CREDENTIALS["AWS_SECRET_ACCESS_KEY"] not in repr(vars(store)) + repr(Found(b"", "x"))
