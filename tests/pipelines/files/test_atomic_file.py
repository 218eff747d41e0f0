import os

import pytest

from ratchet.pipelines.files.atomic_file import put_on_disk
from ratchet.pipelines.training.checkpoint import FolderCheckpoints


@pytest.fixture
def synced(monkeypatch):
    """The inodes of what was brought to the disk, in order."""
    found = []
    fsync = os.fsync

    def record(descriptor):
        found.append(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    monkeypatch.setattr("ratchet.pipelines.files.atomic_file.os.fsync", record)
    return found


def test_every_file_and_folder_below_is_brought_to_the_disk(tmp_path, synced):
    (tmp_path / "deep" / "deeper").mkdir(parents=True)
    places = [tmp_path, tmp_path / "deep", tmp_path / "deep" / "deeper"]
    for place in list(places):
        (place / "weights").write_bytes(b"x")
        places.append(place / "weights")
    put_on_disk(tmp_path)
    assert sorted(synced) == sorted(os.stat(place).st_ino for place in places)


def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path, synced, monkeypatch):
    store, seen = FolderCheckpoints(tmp_path), []

    def write(folder):
        folder.mkdir()
        (folder / "weights").write_bytes(b"x")

    rename = type(tmp_path).rename

    def renaming(path, target):
        seen.extend(synced)
        return rename(path, target)

    monkeypatch.setattr(type(tmp_path), "rename", renaming)
    store.save("one", write)
    assert os.stat(store.path("one") / "weights").st_ino in seen
    assert os.stat(store.path("one")).st_ino in seen
