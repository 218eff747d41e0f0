"""Covers, beside `data_uris`: `api.spec_check`."""

import os

import pytest

from ratchet.pipelines.data.sources import read_rows
from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.patterns import Visits
from ratchet.pipelines.spec.update_spec import ColumnsSpec
from ratchet.service.api.app import create_app
from ratchet.service.api.spec_check import SpecRules
from ratchet.service.inputs.data_uris import DataRoots
from ratchet.service.settings import Settings

ROW = '{"text": "a", "label": "b"}\n'


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    (folder / "files" / "ab").mkdir(parents=True)
    (folder / "files" / "ab" / "secret.jsonl").write_text("{}")
    return folder


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "a.jsonl").write_text("{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "b.jsonl").write_text("{}")
    (tmp_path / "root-beside").mkdir()
    (tmp_path / "root-beside" / "c.jsonl").write_text("{}")
    return folder


@pytest.fixture
def roots(root, home):
    return DataRoots((str(root), "s3://bucket/data/"), home)


@pytest.mark.parametrize(
    ("given", "absolute"),
    [
        ("{root}/inner/a.jsonl", "{root}/inner/a.jsonl"),
        ("file://{root}/inner/a.jsonl", "{root}/inner/a.jsonl"),
        ("{root}/inner/../inner/a.jsonl", "{root}/inner/a.jsonl"),
        ("{root}/inner", "{root}/inner"),
        ("{root}/inner/*.jsonl", "{root}/inner/*.jsonl"),
        ("{root}/**/*.jsonl", "{root}/**/*.jsonl"),
        ("{root}/not-there-yet.jsonl", "{root}/not-there-yet.jsonl"),
        ("s3://bucket/data/train.jsonl", "s3://bucket/data/train.jsonl"),
        ("s3://bucket/data", "s3://bucket/data"),
    ],
)
def test_what_lies_under_a_root_is_made_absolute(roots, root, given, absolute):
    found = roots.checked(given.format(root=root), "train")

    assert found == absolute.format(root=root)


@pytest.mark.parametrize(
    "given",
    [
        "{root}/../outside/b.jsonl",
        "{root}/inner/../../outside/b.jsonl",
        "{root}/../outside/*.jsonl",
        "{root}/*/../../outside/*.jsonl",
        "{root}/in*/../../outside/b.jsonl",
        "{root}-beside/c.jsonl",
        "/etc/passwd",
        "/etc/*",
        "/*",
        "/",
        "",
        "~/x.jsonl",
        "inner/a.jsonl",
        "../root/inner/a.jsonl",
        "file:{root}/inner/a.jsonl",
        "file://localhost{root}/inner/a.jsonl",
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "http://169.254.169.254/latest/meta-data/",
        "https://example.org/a.jsonl",
        "http://metadata.google.internal/",
        "ftp://example.org/a",
        "memory://a",
        "s3://bucket/other/a.jsonl",
        "s3://bucket/database/a.jsonl",
        "s3://bucket/data/../other/a.jsonl",
        "s3://bucket/data/%2e%2e/other",
        "s3://user:secret@bucket/data/a",
        "s3://bucket/data/a?endpoint_url=http://169.254.169.254",
        "s3a://bucket/data/a.jsonl",
        "S3://bucket/data/a.jsonl",
        "gs://bucket/data/a.jsonl",
        "simplecache::file:///etc/passwd",
        "simplecache::s3://bucket/data/a",
        "zip://x::{root}/inner/a.jsonl",
        "{root}/inner/a.jsonl\0",
        "{root}/inner\n/a.jsonl",
        "{root}/" + "x" * 2000,
        "{root}/" + "x" * 300,
        "hf://datasets/x",
        "reference://{root}",
        "local://{root}",
        "\\\\server\\share",
        "{root}/**/inner/**/*.jsonl",
        "{root}/" + "*/" * 17,
        "{root}/**.jsonl",
        "s3://bucket/data/**/**/a.jsonl",
        "s3://bucket/data//a.jsonl",
        "s3://bucket/data/./a.jsonl",
    ],
)
def test_what_leaves_the_roots_is_refused(roots, root, given):
    found = roots.checked(given.format(root=root), "tasks[0].train")

    assert isinstance(found, Problem)
    assert found.where == "tasks[0].train"


@pytest.mark.parametrize("target", ["../../outside/b.jsonl", "/etc/passwd", "loop.jsonl"])
def test_a_link_out_of_the_root_is_refused(roots, root, target):
    (root / "inner" / "loop.jsonl").symlink_to(target)

    assert isinstance(roots.checked(f"{root}/inner/loop.jsonl", ""), Problem)
    assert isinstance(roots.checked(f"{root}/inner", ""), Problem)
    assert isinstance(roots.checked(f"{root}/*/*.jsonl", ""), Problem)
    assert isinstance(roots.checked(f"{root}/**/*.jsonl", ""), Problem)


def test_a_linked_folder_out_of_the_root_is_refused(roots, root, tmp_path):
    (root / "away").symlink_to(tmp_path / "outside")

    assert isinstance(roots.checked(f"{root}/away/b.jsonl", ""), Problem)
    assert isinstance(roots.checked(f"{root}/away/*.jsonl", ""), Problem)
    assert isinstance(roots.checked(f"{root}/a*/b.jsonl", ""), Problem)
    assert isinstance(roots.checked(str(root), ""), Problem)
    assert roots.checked(f"{root}/inner", "") == f"{root}/inner"


def test_a_link_inside_the_root_is_resolved(roots, root):
    (root / "alias.jsonl").symlink_to(root / "inner" / "a.jsonl")

    assert roots.checked(f"{root}/alias.jsonl", "") == f"{root}/inner/a.jsonl"


def test_uploads_cannot_be_named_by_their_path(home):
    roots = DataRoots((str(home / "files"),), home)

    assert isinstance(roots.checked(f"{home}/files/ab/secret.jsonl", ""), Problem)
    assert isinstance(roots.checked(f"{home}/files", ""), Problem)


def test_a_root_around_the_home_does_not_open_the_home(home, tmp_path):
    roots = DataRoots((str(tmp_path), str(home / "shared")), home)
    (home / "service").mkdir()
    (home / "service" / "admin.key").write_text("rk_")
    (home / "shared").mkdir()
    (home / "shared" / "x.txt").write_text("x")
    (tmp_path / "mine.txt").write_text("x")

    assert roots.checked(f"{tmp_path}/mine.txt", "") == f"{tmp_path}/mine.txt"
    assert roots.checked(f"{home}/shared/x.txt", "") == f"{home}/shared/x.txt"
    for path in ("service/admin.key", "service/*", "files/ab/secret.jsonl", "", "*/*.key"):
        assert isinstance(roots.checked(f"{home}/{path}", ""), Problem), path
    assert isinstance(roots.checked(str(tmp_path), ""), Problem)
    assert isinstance(roots.checked(f"{tmp_path}/*/*/*.key", ""), Problem)


@pytest.mark.parametrize("name", ["state", ".ratchet-service"])
def test_no_pattern_reaches_a_home_below_a_root(tmp_path, name):
    home = tmp_path / name
    (home / "lineages").mkdir(parents=True)
    (tmp_path / "sets").mkdir()
    (tmp_path / "sets" / "a.jsonl").write_text(ROW)
    roots = DataRoots((str(tmp_path),), home)

    for pattern in ("**/*.jsonl", "**", "*/**", "*/*/*.jsonl", f"{name[:3]}*/**/*.jsonl"):
        found = roots.checked(f"{tmp_path}/{pattern}", "")  # nothing of the home is there yet
        (home / "lineages" / "b.jsonl").write_text(ROW)
        read = (
            [] if isinstance(found, Problem) else read_rows(found, ColumnsSpec())[0].origins.files
        )
        (home / "lineages" / "b.jsonl").unlink()
        assert all("/sets/" in file for file in read), pattern
    for pattern in ("*.jsonl", "*", "s[e]ts/**", "sets/**/*.jsonl"):
        assert roots.checked(f"{tmp_path}/{pattern}", "") == f"{tmp_path}/{pattern}"


def test_a_hidden_home_leaves_patterns_over_the_rest_of_the_root(tmp_path):
    (tmp_path / ".service" / "files").mkdir(parents=True)
    (tmp_path / ".service" / "files" / "secret.jsonl").write_text(ROW)
    (tmp_path / "a.jsonl").write_text(ROW)
    roots = DataRoots((str(tmp_path),), tmp_path / ".service")

    found = roots.checked(f"{tmp_path}/**/*.jsonl", "")

    assert read_rows(found, ColumnsSpec())[0].origins.files == (f"{tmp_path}/a.jsonl",)


def test_what_is_checked_of_a_name_with_signs_is_what_is_read(roots, root):
    (root / "[i]nner").symlink_to("/etc")
    assert isinstance(roots.checked(f"{root}/[i]nner", ""), Problem)
    (root / "[i]nner").unlink()
    (root / "[ab]").mkdir()
    (root / "alias").symlink_to(root / "[ab]")
    assert roots.checked(f"{root}/[ab]", "") == f"{root}/[ab]"
    assert isinstance(roots.checked(f"{root}/alias/*.jsonl", ""), Problem)
    assert isinstance(roots.checked(f"{root}/alias/later.jsonl", ""), Problem)


def test_what_is_looked_at_is_bounded_over_all_paths_together(roots, root):
    visits = Visits(4)
    assert roots.checked(f"{root}/**/*.jsonl", "", visits) == f"{root}/**/*.jsonl"
    for path in (f"{root}/**/*.none", f"{root}"):
        found = roots.checked(path, "train", visits)
        assert "more than 4 files and folders" in str(found)


def test_all_paths_of_a_spec_share_one_bound(roots, root, monkeypatch):
    monkeypatch.setattr("ratchet.service.api.spec_check.MAX_VISITS", 4)
    rules = SpecRules(roots, upload=lambda _: None, sees=lambda _: True)
    tasks = [{"name": name, "train": f"{root}/**/*.jsonl"} for name in ("a", "b", "c")]
    spec = {"lineage": "intents", "model": {"name": "minilm"}, "tasks": tasks}

    rules.check({**spec, "tasks": tasks[:1]})
    with pytest.raises(SpecError, match=r"tasks\[2\]\.train: more than 4 files and folders"):
        rules.check(spec)


@pytest.mark.parametrize("store", ["s3://bucket/data/state", "s3://bucket/data/state/"])
@pytest.mark.parametrize(
    ("uri", "is_allowed"),
    [
        ("s3://bucket/data/state/versions/other/3/a.parquet", False),
        ("s3://bucket/data/state", False),
        ("s3://bucket/data/state/", False),
        ("s3://bucket/data", False),
        ("s3://bucket/data/", False),
        ("s3://bucket/data/**/*.parquet", False),
        ("s3://bucket/data/*/versions/*.parquet", False),
        ("s3://bucket/data/s[t]ate/versions/*.parquet", False),
        ("s3a://bucket/data/state/a.parquet", False),
        ("s3://bucket/data/state-of-things/a.parquet", True),
        ("s3://bucket/data/*.parquet", True),
        ("s3://bucket/data/sets/**/*.parquet", True),
        ("s3://bucket/data/sets", True),
    ],
)
def test_the_store_is_kept_out_of_a_root_around_it(home, store, uri, is_allowed):
    roots = DataRoots(("s3://bucket/data", "s3a://bucket/data"), home, store)

    assert (roots.checked(uri, "") == uri) is is_allowed


def test_the_api_keeps_its_store_out(home):
    given = {"data_roots": ("s3://bucket",), "store": "s3://bucket/state"}
    roots = create_app(Settings(home=home, **given)).state.backend.roots

    assert isinstance(roots.checked("s3://bucket/state/a.parquet", ""), Problem)


def test_a_root_inside_the_store_is_open(home):
    roots = DataRoots(("s3://bucket", "s3://bucket/state/shared"), home, "s3://bucket/state")

    assert roots.checked("s3://bucket/state/shared/*.csv", "") == "s3://bucket/state/shared/*.csv"
    assert isinstance(roots.checked("s3://bucket/state/sha*/*.csv", ""), Problem)


def test_a_model_folder_lies_under_a_root_with_all_that_is_in_it(roots, root, tmp_path):
    assert roots.is_allowed_folder(root / "inner")
    assert not roots.is_allowed_folder(tmp_path / "outside")
    assert not roots.is_allowed_folder(root / "nowhere")
    assert not roots.is_allowed_folder(root / "inner" / "a.jsonl")
    assert not roots.is_allowed_folder(root / ("x" * 300))
    (root / "inner" / "model.safetensors").symlink_to(tmp_path / "outside" / "b.jsonl")
    assert not roots.is_allowed_folder(root / "inner")


def test_a_root_may_itself_be_reached_through_a_link(root, home, tmp_path):
    (tmp_path / "data").symlink_to(root)
    roots = DataRoots((str(tmp_path / "data"),), home)

    assert roots.checked(f"{tmp_path}/data/inner/a.jsonl", "") == f"{root}/inner/a.jsonl"


def test_a_pattern_with_very_many_files_is_refused(roots, root, monkeypatch):
    monkeypatch.setattr("ratchet.service.inputs.data_uris.MAX_FILES", 3)
    for number in range(4):
        (root / "inner" / f"{number}.jsonl").touch()

    assert isinstance(roots.checked(f"{root}/inner/*.jsonl", ""), Problem)
    assert isinstance(roots.checked(f"{root}/inner", ""), Problem)


def test_a_named_pipe_is_refused(roots, root):
    os.mkfifo(root / "pipe.jsonl")

    assert isinstance(roots.checked(f"{root}/pipe.jsonl", ""), Problem)
