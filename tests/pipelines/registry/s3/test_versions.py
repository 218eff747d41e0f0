import shutil
import threading
import time

import pytest

from ratchet.pipelines.errors import BusyError, NotFoundError, ObjectStoreError
from ratchet.pipelines.registry.manifest import (
    Manifest,
    read_manifest,
    verify_files,
    write_manifest,
)
from ratchet.pipelines.registry.registry import Registry
from ratchet.pipelines.registry.s3.attachment import attach_object_store

pytestmark = pytest.mark.slow


@pytest.fixture
def home(bucket, tmp_path):
    """Makes homes of one store, by name."""

    def make(name):
        attach_object_store(tmp_path / name, f"s3://{bucket}/state")
        return Registry(tmp_path / name)

    return make


def write_version(registry, lineage="intents", content="weights"):
    """A small version under the next number, as an update leaves it before it is published."""
    number = registry.next_number(lineage)
    folder = registry.path(lineage, number)
    (folder / "adapters" / "task_000").mkdir(parents=True)
    (folder / "weights.safetensors").write_text(content, encoding="utf-8")
    (folder / "adapters" / "task_000" / "adapter.safetensors").write_bytes(b"\x00\x01")
    manifest = Manifest(
        lineage=lineage,
        version=number,
        parent=number - 1 or None,
        created=time.time(),
        base_model={"name": "tiny", "kind": "classifier", "sha256": "0"},
        scenario="class_incremental",
        methods=[],
        labels=[],
        tasks=[],
    )
    write_manifest(folder, manifest)
    return number


def published(registry, **changes):
    number = write_version(registry, **changes)
    registry.publish("intents", number)
    registry.register("intents", number, {"average_accuracy": 0.5})
    return number


def test_a_version_of_one_home_is_found_and_fetched_in_another(home):
    here, there = home("here"), home("there")
    number = published(here)
    here.promote("intents", number)
    assert there.lineages() == ["intents"]
    assert there.versions("intents") == [1]
    assert there.champion("intents") == 1
    folder = there.resolve("intents")
    verify_files(folder, read_manifest(folder))
    assert (folder / "weights.safetensors").read_text(encoding="utf-8") == "weights"
    assert read_manifest(folder) == read_manifest(here.path("intents", 1))


def test_only_the_manifest_is_fetched_before_the_files_are_needed(home):
    published(home("here"))
    there = home("there")
    assert there.versions("intents") == [1]
    names = [path.name for path in there.path("intents", 1).rglob("*") if path.is_file()]
    assert names == ["manifest.json"]


def test_a_copy_that_lost_or_spoiled_files_is_mended(home):
    published(home("here"))
    there = home("there")
    folder = there.resolve("intents@1")
    shutil.rmtree(folder / "adapters")
    (folder / "weights.safetensors").write_text("spoiled", encoding="utf-8")
    there.fetched("intents", 1)
    verify_files(folder, read_manifest(folder))


def test_a_version_that_is_not_published_is_no_version_anywhere(home):
    here, there = home("here"), home("there")
    number = write_version(here)
    assert here.versions("intents") == there.versions("intents") == []
    with pytest.raises(NotFoundError):
        here.promote("intents", number)
    with pytest.raises(NotFoundError):
        there.fetched("intents", number)
    here.publish("intents", number)
    assert here.versions("intents") == there.versions("intents") == [number]


def test_publishing_again_does_nothing(home):
    here = home("here")
    number = write_version(here)
    for _ in range(3):
        here.publish("intents", number)
        assert here.versions("intents") == [number]


def test_a_torn_upload_is_no_version_and_is_gone_on_with(home, s3, bucket):
    here = home("here")
    number = write_version(here)
    s3.put_object(Bucket=bucket, Key="state/versions/intents/1/weights.safetensors", Body=b"wei")
    assert home("there").versions("intents") == []
    here.publish("intents", number)
    folder = home("there").resolve("intents@1")
    verify_files(folder, read_manifest(folder))


def test_a_version_is_never_overwritten(home):
    here, there = home("here"), home("there")
    published(here)
    write_version(there)  # number 2, forged into number 1 below
    forged = there.path("intents", 1)
    shutil.rmtree(forged, ignore_errors=True)
    shutil.copytree(there.path("intents", 2), forged)
    with pytest.raises(BusyError, match="belongs to another version"):
        there.publish("intents", 1)
    third = home("third").resolve("intents@1")
    assert read_manifest(third).version == 1


def test_two_writers_never_share_a_number(home):
    registries = [home(f"home_{n}") for n in range(6)]
    start, numbers = threading.Barrier(6), []

    def claim(registry):
        start.wait()
        numbers.append(registry.next_number("intents"))

    threads = [threading.Thread(target=claim, args=(registry,)) for registry in registries]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(numbers) == [1, 2, 3, 4, 5, 6]


def test_a_number_that_was_claimed_and_never_written_is_passed_over(home):
    here, there = home("here"), home("there")
    assert here.next_number("intents") == 1
    assert published(there) == 2
    assert here.versions("intents") == [2]


def test_no_change_of_an_alias_is_lost_between_two_homes(home):
    here = home("here")
    numbers = [published(here) for _ in range(4)]
    homes = [home(f"home_{number}") for number in numbers]
    start = threading.Barrier(4)

    def promote(registry, number):
        start.wait()
        registry.promote("intents", number)

    threads = [
        threading.Thread(target=promote, args=pair) for pair in zip(homes, numbers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    aliases = here.aliases("intents")
    moves = [change.number for change in aliases.history if change.alias == "champion"]
    assert sorted(moves) == numbers
    assert aliases.champion == moves[-1]
    assert sorted(aliases.registered) == numbers


def test_a_judged_version_does_not_push_out_a_champion_it_was_not_held_against(home):
    here, there = home("here"), home("there")
    first, second, third = (published(here) for _ in range(3))
    here.promote_over("intents", first, None)
    there.promote_over("intents", second, first)
    with pytest.raises(BusyError, match="version 2 became champion while version 3"):
        here.promote_over("intents", third, first)
    assert there.champion("intents") == second
    there.promote_over("intents", second, first)  # again, after an interruption
    assert here.rollback("intents") == first


def test_a_corrupted_object_is_named_and_nothing_is_taken_from_it(home, s3, bucket):
    published(home("here"))
    key = "state/versions/intents/1/weights.safetensors"
    s3.put_object(Bucket=bucket, Key=key, Body=b"spoiled")
    there = home("there")
    with pytest.raises(ObjectStoreError, match=f"{key} was changed after it was written"):
        there.resolve("intents@1")
    assert not (there.path("intents", 1) / "weights.safetensors").exists()
    s3.delete_object(Bucket=bucket, Key=key)
    with pytest.raises(ObjectStoreError, match=f"{key} is missing"):
        there.resolve("intents@1")


def test_a_manifest_that_names_a_file_elsewhere_writes_nothing_there(home, s3, bucket, tmp_path):
    here = home("here")
    published(here)
    key = "state/versions/intents/1/manifest.json"
    text = s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode()
    forged = text.replace('"weights.safetensors"', '"../../../../escaped"')
    s3.put_object(Bucket=bucket, Key=key, Body=forged.encode())
    with pytest.raises(ValueError, match="outside the version"):
        home("there").resolve("intents@1")
    assert not list(tmp_path.rglob("escaped"))


def test_no_secret_is_in_anything_that_is_kept(home, s3, bucket, tmp_path):
    from tests.s3_server import CREDENTIALS

    published(home("here"))
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"].encode()
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    bodies = [s3.get_object(Bucket=bucket, Key=one["Key"])["Body"].read() for one in listed]
    bodies += [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert bodies
    assert not [body for body in bodies if secret in body]
