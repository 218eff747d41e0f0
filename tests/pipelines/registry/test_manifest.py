import json
from dataclasses import replace

import pytest

from ratchet.pipelines.errors import NotFoundError, VersionError
from ratchet.pipelines.registry.manifest import (
    FORMAT,
    MANIFEST_FILE,
    Manifest,
    inside,
    read_manifest,
    verify_files,
    write_manifest,
)

SOME = Manifest(
    lineage="helpdesk",
    version=3,
    parent=2,
    created=1.5,
    base_model={"name": "minilm", "pooling": "mean", "sha256": "00"},
    scenario="class_incremental",
    methods=[{"type": "ewc"}],
    labels=["größe"],
    tasks=[{"id": 0, "name": "a", "class_ids": [0], "stage": 0}],
)


@pytest.fixture
def version(tmp_path):
    folder = tmp_path / "3"
    (folder / "methods").mkdir(parents=True)
    (folder / "weights.safetensors").write_bytes(b"weights")
    (folder / "methods" / "values.json").write_text("{}")
    write_manifest(folder, SOME)
    return folder


def test_a_manifest_is_read_as_it_was_written_with_the_hash_of_every_file(version):
    found = read_manifest(version)
    assert set(found.files) == {"weights.safetensors", "methods/values.json"}
    assert replace(found, files={}) == SOME
    verify_files(version, found)


@pytest.mark.parametrize("place", [0, 3, 6])
def test_a_flipped_byte_is_found(version, place):
    path = version / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    with pytest.raises(VersionError, match=r"weights\.safetensors was changed"):
        verify_files(version, read_manifest(version))


def test_a_missing_file_is_found(version):
    (version / "methods" / "values.json").unlink()
    with pytest.raises(VersionError, match=r"methods/values\.json is missing"):
        verify_files(version, read_manifest(version))


@pytest.mark.parametrize(
    "name", ["../outside", "methods/../../outside", "/etc/passwd", "methods/../weights.safetensors"]
)
def test_a_path_that_leaves_the_folder_is_refused_even_if_its_hash_fits(version, name):
    (version.parent / "outside").write_bytes(b"weights")
    manifest = read_manifest(version)
    files = {name: manifest.files["weights.safetensors"]}
    with pytest.raises(VersionError, match="outside the version"):
        verify_files(version, replace(manifest, files=files))


def test_a_link_that_leads_out_is_refused_even_if_its_hash_fits(version):
    outside = version.parent / "outside"
    outside.write_bytes(b"weights")
    (version / "weights.safetensors").unlink()
    (version / "weights.safetensors").symlink_to(outside)
    with pytest.raises(VersionError, match="outside the version"):
        verify_files(version, read_manifest(version))


def test_a_linked_folder_that_leads_out_is_refused(version):
    elsewhere = version.parent / "elsewhere"
    (version / "methods").rename(elsewhere)
    (version / "methods").symlink_to(elsewhere)
    with pytest.raises(VersionError, match="outside the version"):
        verify_files(version, read_manifest(version))


def test_a_name_that_no_file_can_have_is_refused(version):
    with pytest.raises(VersionError, match="outside the version"):
        inside(version.resolve(), "a\0b")


def test_a_file_that_the_manifest_does_not_name_is_refused(version):
    """It would be loaded without having been checked."""
    (version / "methods" / "ewc.safetensors").write_bytes(b"slipped in")
    with pytest.raises(VersionError, match=r"methods/ewc\.safetensors is not in the manifest"):
        verify_files(version, read_manifest(version))


def changed(version, **fields):
    path = version / MANIFEST_FILE
    raw = json.loads(path.read_text(encoding="utf-8")) | fields
    path.write_text(json.dumps({k: v for k, v in raw.items() if v != "drop"}), encoding="utf-8")
    return version


def test_a_newer_format_is_refused_with_what_to_do(version):
    with pytest.raises(VersionError, match=rf"format {FORMAT + 1}, .* reads {FORMAT}; upgrade"):
        read_manifest(changed(version, format=FORMAT + 1))


def test_an_older_format_is_refused_with_what_to_do(version):
    with pytest.raises(VersionError, match=r"format 1, which an earlier release wrote.*teach"):
        read_manifest(changed(version, format=1))


@pytest.mark.parametrize(
    "fields",
    [
        {"format": "drop"},
        {"format": "new"},
        {"format": 0},
        {"labels": "drop"},
        {"unknown": 1},
        {"files": None},
        {"files": {"weights.safetensors": 5}},
        {"tasks": None},
    ],
    ids=str,
)
def test_a_broken_manifest_is_said_to_be_broken(version, fields):
    with pytest.raises(VersionError, match="is not a manifest"):
        read_manifest(changed(version, **fields))


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_file_that_is_no_manifest_at_all_is_said_to_be_broken(version, content):
    (version / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(VersionError, match="is not a manifest"):
        read_manifest(version)


def test_without_a_manifest_there_is_no_version(version):
    (version / MANIFEST_FILE).unlink()
    with pytest.raises(NotFoundError, match=r"manifest\.json is missing"):
        read_manifest(version)
