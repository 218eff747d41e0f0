"""Covers, beside `spec_data`: `inputs.spec_paths`."""

import hashlib
import json

import pytest
import yaml

from ratchet.pipelines.errors import SpecError
from ratchet.pipelines.spec.update_spec import UpdateSpec
from ratchet.service.client import AsyncClient, Client
from tests.service.client.scripted import JOB, Script, call, listed, ok

BOTH = pytest.mark.parametrize("kind", [Client, AsyncClient])


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(f'{{"text": "{name}"}}\n', encoding="utf-8")
    (tmp_path / "copy_of_a.jsonl").write_bytes((tmp_path / "a.jsonl").read_bytes())
    return tmp_path


def spec_of(train="a.jsonl", **splits):
    task = {"name": "t", "train": train, **splits}
    return {"lineage": "tiny", "model": {"name": "minilm"}, "tasks": [task]}


class Uploads:
    """Gives each upload an id, and takes submissions; `known` are uploads of before."""

    def __init__(self, *known):
        self.known = known
        self.names = []
        self.spec = None

    def __call__(self, request):
        if request.url.path != "/v1/files":
            self.spec = json.loads(request.content)["spec"]
            return ok(JOB)
        if request.method == "GET":
            assert len(request.url.params["sha256"]) == 64
            return listed(list(self.known))  # as a service does that does not know the filter
        content = request.read()
        assert b'name="purpose"\r\n\r\nfine-tune' in content
        self.names.append(content.partition(b'filename="')[2].partition(b'"')[0].decode())
        return ok({"id": f"file-{len(self.names)}"})


@BOTH
def test_local_files_are_uploaded_once_a_content_and_named_by_their_ids(kind, folder):
    spec = folder / "spec.yaml"
    content = spec_of(validation="copy_of_a.jsonl", test="b.jsonl")
    content["evaluation"] = {"retention": {"train": "b.jsonl", "test": "s3://bucket/x.jsonl"}}
    spec.write_text(yaml.safe_dump(content), encoding="utf-8")
    server = Uploads()
    call(kind, server, "submit", spec)
    assert server.names == ["a.jsonl", "b.jsonl"]
    assert server.spec["tasks"] == [
        {"name": "t", "train": "file-1", "validation": "file-1", "test": "file-2"}
    ]
    assert server.spec["evaluation"]["retention"] == {
        "train": "file-2",
        "test": "s3://bucket/x.jsonl",
    }


def test_a_content_that_was_uploaded_before_is_not_sent_again(folder):
    digest = hashlib.sha256((folder / "a.jsonl").read_bytes()).hexdigest()
    as_text = {"id": "file-8", "sha256": digest, "filename": "a.txt"}
    known = {"id": "file-9", "sha256": digest, "filename": "of_yesterday.JSONL"}
    other = {"id": "file-7", "sha256": "0" * 64, "filename": "other.jsonl"}
    server = Uploads(other, as_text, known)
    call(
        Client,
        server,
        "submit",
        spec_of()
        | {
            "tasks": [
                {"name": "t", "train": str(folder / "a.jsonl"), "test": str(folder / "b.jsonl")}
            ]
        },
    )
    assert server.names == ["b.jsonl"]
    assert server.spec["tasks"] == [{"name": "t", "train": "file-9", "test": "file-1"}]


@BOTH
def test_without_upload_paths_are_made_absolute_and_nothing_is_read(kind, folder):
    spec = folder / "spec.yaml"
    content = spec_of(validation="missing.jsonl", test="file-0123")
    spec.write_text(yaml.safe_dump(content), encoding="utf-8")
    server = Uploads()
    call(kind, server, "submit", spec, upload=False)
    assert server.names == []
    [task] = server.spec["tasks"]
    assert task["train"] == str(folder / "a.jsonl")
    assert task["validation"] == str(folder / "missing.jsonl")
    assert task["test"] == "file-0123"


def test_what_a_method_replays_is_uploaded_too(folder):
    content = spec_of() | {
        "methods": [{"type": "mixed_data", "sources": ["b.jsonl", "s3://b/c.jsonl"]}]
    }
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(content), encoding="utf-8")
    server = Uploads()
    call(Client, server, "submit", spec)
    assert server.names == ["a.jsonl", "b.jsonl"]
    assert server.spec["methods"] == [
        {"type": "mixed_data", "sources": ["file-2", "s3://b/c.jsonl"]}
    ]


@pytest.mark.parametrize("name", ["./base", "models/base", "sentence/encoder", "minilm"])
@pytest.mark.parametrize("upload", [True, False])
def test_a_models_folder_is_named_from_the_root_and_nothing_else_is(folder, name, upload):
    (folder / "models" / "base").mkdir(parents=True)
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump(spec_of() | {"model": {"name": name}}), encoding="utf-8")
    server = Uploads()
    call(Client, server, "submit", spec, upload=upload)
    known = {"./base": str(folder / "base"), "models/base": str(folder / "models" / "base")}
    assert server.spec["model"]["name"] == known.get(name, name)


def test_a_stream_is_found_too_and_the_callers_fields_stay(folder, monkeypatch):
    monkeypatch.chdir(folder)
    spec = {"lineage": "tiny", "stream": {"train": "a.jsonl", "by": "label"}}
    server = Uploads()
    call(Client, server, "submit", spec)
    assert server.spec["stream"] == {"train": "file-1", "by": "label"}
    assert spec["stream"]["train"] == "a.jsonl"


def test_a_spec_object_is_submitted(folder):
    spec = UpdateSpec.model_validate(spec_of(str(folder / "a.jsonl")))
    server = Uploads()
    call(Client, server, "submit", spec)
    assert server.spec["tasks"][0]["train"] == "file-1"
    assert server.spec["lineage"] == "tiny"


def test_all_missing_files_are_said_before_anything_is_sent(folder):
    (folder / "c.1.jsonl").touch()
    script = Script(ok(JOB))
    (folder / "shards").mkdir()
    spec = spec_of(
        str(folder / "no.jsonl"),
        validation=str(folder / "c.*.jsonl"),
        test=str(folder / "shards"),
    )
    with pytest.raises(SpecError) as caught:
        call(Client, script, "submit", spec)
    places = {problem.where: problem.message for problem in caught.value.problems}
    assert places == {
        "tasks[0].train": "there is no such file",
        "tasks[0].validation": "several files are not uploaded",
        "tasks[0].test": "a folder is not uploaded",
    }
    hints = {problem.where: problem.hint for problem in caught.value.problems}
    assert "--no-upload" in hints["tasks[0].test"]
    assert hints["tasks[0].validation"] == hints["tasks[0].test"]
    assert script.requests == []


@pytest.mark.parametrize("content", ["", "- a\n", "just text\n"])
def test_a_file_that_holds_no_spec_is_refused(tmp_path, content):
    path = tmp_path / "spec.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(SpecError, match="a spec is a mapping of fields"):
        call(Client, Script(ok(JOB)), "submit", path)
