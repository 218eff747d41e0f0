"""Covers, beside `sources`: `readers`, `locations`, `saved_dataset`."""

import errno
import gzip
import json
import subprocess
import sys

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.local import LocalFileSystem

from ratchet.pipelines.data.readers import read_parquet
from ratchet.pipelines.data.sources import MAX_PROBLEMS_PER_FILE, read_rows
from ratchet.pipelines.spec.update_spec import ColumnsSpec

ROWS = [("open the door", "open"), ("shut it, please", "shut"), ('say "hello"', "greet")]
COLUMNS = ColumnsSpec()


def jsonl(rows=ROWS, **more) -> bytes:
    return b"".join(
        json.dumps({"text": text, "label": label, **more}).encode() + b"\n" for text, label in rows
    )


def read(path, group=None, columns=COLUMNS):
    rows, problems = read_rows(str(path), columns, group)
    return list(zip(rows.texts, rows.labels, strict=True)), problems, rows


def write_jsonl(path):
    path.write_bytes(jsonl())


def write_csv(path):
    path.write_text(
        'label,text\nopen,open the door\nshut,"shut it, please"\ngreet,"say ""hello"""\n'
    )


def write_tsv(path):
    path.write_text(
        'label\ttext\nopen\topen the door\nshut\tshut it, please\ngreet\t"say ""hello"""\n'
    )


def write_parquet(path, rows=ROWS):
    pq.write_table(pa.table({"text": [r[0] for r in rows], "label": [r[1] for r in rows]}), path)


def write_gzip(path):
    path.write_bytes(gzip.compress(jsonl()))


@pytest.mark.parametrize(
    ("name", "write", "first_line"),
    [
        ("a.jsonl", write_jsonl, 1),
        ("a.csv", write_csv, 2),
        ("a.tsv", write_tsv, 2),
        ("a.parquet", write_parquet, 1),
        ("a.jsonl.gz", write_gzip, 1),
    ],
)
def test_every_format_gives_the_same_rows_with_file_and_line(tmp_path, name, write, first_line):
    path = tmp_path / name
    write(path)
    found, problems, rows = read(path)
    assert found == ROWS
    assert problems == []
    assert list(rows.origins) == [f"{path}:{first_line + i}" for i in range(3)]


def test_a_saved_data_set_gives_names_for_class_numbers(tmp_path):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        text=datasets.Value("string"), label=datasets.ClassLabel(names=["no", "yes"])
    )
    saved = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [1, 0]}, features=features)
    saved.save_to_disk(tmp_path / "set")
    found, problems, rows = read(tmp_path / "set")
    assert found == [("a", "yes"), ("b", "no")]
    assert problems == []
    assert rows.origins[1] == f"{tmp_path / 'set'}:2"
    assert "missing column 'domain'" in str(read(tmp_path / "set", "domain")[1][0])


@pytest.mark.parametrize(
    "name", ["{other}/data-00000-of-00001.arrow", "../other/data-00000-of-00001.arrow", "..", 7]
)
def test_a_saved_data_set_that_names_files_elsewhere_is_not_opened(tmp_path, name):
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_dict({"text": ["a"], "label": ["x"]})
    saved.save_to_disk(tmp_path / "other")
    saved.save_to_disk(tmp_path / "set")
    name = name.format(other=tmp_path / "other") if isinstance(name, str) else name
    state = json.loads((tmp_path / "set" / "state.json").read_text())
    (tmp_path / "set" / "state.json").write_text(
        json.dumps({**state, "_data_files": [{"filename": name}]})
    )
    found, problems, _ = read(tmp_path / "set")
    assert found == []
    assert "names a file that is not in the folder" in str(problems[0])


@pytest.mark.parametrize("state", ["[]", "{}", '{"_data_files": 3}', "{"])
def test_a_saved_data_set_without_a_state_is_told(tmp_path, state):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"text": ["a"], "label": ["x"]}).save_to_disk(tmp_path / "set")
    (tmp_path / "set" / "state.json").write_text(state)
    assert "not a readable saved data set" in str(read(tmp_path / "set")[1][0])


def test_saved_splits_must_be_named(tmp_path):
    datasets = pytest.importorskip("datasets")
    saved = datasets.Dataset.from_dict({"text": ["a"], "label": ["x"]})
    datasets.DatasetDict(train=saved, test=saved).save_to_disk(tmp_path / "set")
    _, problems, _ = read(tmp_path / "set")
    assert "several splits: test, train" in str(problems[0])
    assert read(tmp_path / "set" / "train")[0] == [("a", "x")]


def test_folders_and_globs_are_read_file_by_file_in_order_of_name(tmp_path):
    for name, row in zip(("b", "a", "c"), ROWS, strict=True):
        write_parquet(tmp_path / f"{name}.parquet", [row])
    (tmp_path / "_SUCCESS").write_text("")
    (tmp_path / ".hidden.parquet").write_text("")
    assert read(tmp_path)[0] == [ROWS[1], ROWS[0], ROWS[2]]
    found, problems, rows = read(tmp_path / "[ab].parquet")
    assert (found, problems) == ([ROWS[1], ROWS[0]], [])
    assert rows.origins[1] == f"{tmp_path}/b.parquet:1"


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_a_pattern_reads_nothing_hidden(tmp_path, scheme):
    root = f"{scheme}:/{tmp_path}" if scheme == "memory" else str(tmp_path)
    for name in ("x/1.jsonl", "x/.2.jsonl", ".service/files/3.jsonl", "x/.more/4.jsonl"):
        with fsspec.open(f"{root}/{name}", "wb", auto_mkdir=True) as file:
            file.write(jsonl())
    found, problems, rows = read(f"{root}/**/*.jsonl")
    assert (found, problems) == (ROWS, [])
    assert rows.origins[0].endswith("/x/1.jsonl:1")


def test_a_pattern_of_many_depths_is_refused_without_a_look(tmp_path):
    _, problems, _ = read(tmp_path / "**" / "a" / "**" / "*.jsonl")
    assert "`**` once at most" in str(problems[0])


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path):
    write_jsonl(tmp_path / "part[1].jsonl")
    assert read(tmp_path / "part[1].jsonl")[0] == ROWS


@pytest.mark.parametrize("scheme", ["memory", "file"])
def test_remote_files_are_read_like_local_ones(tmp_path, scheme):
    root = f"memory://{tmp_path.name}" if scheme == "memory" else f"file://{tmp_path}"
    for name in ("x/1.jsonl", "x/2.jsonl"):
        with fsspec.open(f"{root}/{name}", "wb", auto_mkdir=True) as file:
            file.write(jsonl())
    for uri in (f"{root}/x", f"{root}/x/*.jsonl"):
        found, problems, rows = read(uri)
        assert found == ROWS * 2
        assert problems == []
        assert rows.origins[3].endswith("/x/2.jsonl:1")
        assert rows.origins[3].startswith("memory://" if scheme == "memory" else "/")


@pytest.mark.parametrize(
    "uri",
    ["http://x/a.jsonl", "ftp://x/a.csv", "github://a:b@/x.csv", "simplecache::s3://b/a.jsonl"],
)
def test_other_schemes_are_refused_without_a_look(uri):
    rows, problems = read_rows(uri, COLUMNS)
    assert len(rows) == 0
    assert "s3://" in str(problems[0])
    assert uri in str(problems[0])


@pytest.mark.parametrize(
    ("write", "part"),
    [
        (lambda folder: (folder / "empty").mkdir(), "no data files there"),
        (lambda folder: (write_jsonl(folder / "a.jsonl"), write_csv(folder / "b.csv")), "several"),
        (lambda folder: (folder / "a.xlsx").write_text("x"), "no data files"),
    ],
)
def test_folders_that_cannot_be_read_say_why(tmp_path, write, part):
    write(tmp_path)
    assert part in str(read(tmp_path)[1][0])


def test_a_file_of_an_unknown_format_says_what_is_read(tmp_path):
    (tmp_path / "a.xlsx").write_text("x")
    assert "unknown file format; read are .jsonl" in str(read(tmp_path / "a.xlsx")[1][0])
    assert "no such file" in str(read(tmp_path / "b.jsonl")[1][0])
    assert "no data files" in str(read(tmp_path / "*.jsonl")[1][0])


@pytest.mark.parametrize(
    ("name", "content", "line", "part"),
    [
        ("a.jsonl", b'{"text": "a", "label": "x"}\n{"text": "\xff", "label": "x"}', 2, "not UTF-8"),
        ("a.jsonl", b'\n{"text": "a", "label": "x"', 2, "broken row: not valid JSON"),
        ("a.jsonl", b'{"text": "a \\uD83D", "label": "x"}', 1, "broken row: half a character"),
        ("a.jsonl", b'\n{"text": "a", "label": "\\ude00"}', 2, "broken row: half a character"),
        ("a.jsonl", b'["a", "x"]', 1, "one JSON object"),
        ("a.jsonl", b'{"txt": "a", "label": "x"}', 1, "missing column 'text'"),
        ("a.jsonl", b'{"txt": "a", "label": "x"}', 1, "Did you mean 'txt'?"),
        ("a.jsonl", b'{"text": 5, "label": "x"}', 1, "must be a string (got 5)"),
        ("a.jsonl", b'{"text": null, "label": "x"}', 1, "must be a string (got 'null')"),
        ("a.jsonl", b'{"text": " ", "label": "x"}', 1, "empty text"),
        ("a.jsonl", b'{"text": "a", "label": ""}', 1, "empty label"),
        ("a.jsonl", b'{"text": "a", "label": 1.5}', 1, "string or an integer"),
        ("a.jsonl", b'{"text": "a", "label": true}', 1, "string or an integer"),
        ("a.jsonl", b'{"text": "a \\ud83d", "label": "x"}', 1, "half a character"),
        ("a.csv", b"text,label\na,x\nb\n", 3, "it has 1 values"),
        ("a.csv", b"text,label\na,x\nb,\xe4\n", 3, "not UTF-8: byte 0xe4 at position 3"),
        ("a.csv", b'text,label\n"a\nb",x\n"c"d,x\n', 4, "not valid CSV"),
        ("a.csv", b"text,klass\na,x\n", 1, "missing column 'label'"),
        ("a.csv", b"\xff,klass\na,x\n", 1, "not UTF-8"),
        ("a.csv", b"text,label\n,x\n", 2, "empty text"),
        ("a.parquet", b"PAR1 not", 1, "not a readable Parquet file"),
        ("a.jsonl.gz", b"not gzip", 1, "cannot be read"),
    ],
)
def test_broken_rows_are_reported_with_file_and_line(tmp_path, name, content, line, part):
    path = tmp_path / name
    path.write_bytes(content)
    _, problems, _ = read(path)
    assert [problem.where for problem in problems] == [f"{path}:{line}"]
    assert part in str(problems[0])


def test_a_character_of_two_escapes_is_read_as_itself(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "\\uD83D\\uDE00 \\\\ud83d", "label": "x"}')
    found, problems, _ = read(path)
    assert (found, problems) == ([("\U0001f600 \\ud83d", "x")], [])


def test_sound_rows_after_a_broken_one_are_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b'text,label\na,x\n"b\n\xff",x\nc,y\n')
    found, problems, rows = read(path)
    assert found == [("a", "x"), ("c", "y")]
    assert [problem.where for problem in problems] == [f"{path}:4"]
    assert rows.origins[1] == f"{path}:5"


def test_many_broken_rows_are_counted_not_listed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"{\n" * 50 + jsonl())
    found, problems, _ = read(path)
    assert found == ROWS
    assert len(problems) == MAX_PROBLEMS_PER_FILE + 1
    assert "40 more rows" in str(problems[-1])


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext,label\na,x\n")
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + jsonl())
    assert read(tmp_path / "a.csv")[0] == [("a", "x")]
    assert read(tmp_path / "a.jsonl")[0] == ROWS


def test_columns_and_the_group_column_are_taken_by_name(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"q": "hi", "intent": 7, "domain": "chat"}\n')
    found, problems, rows = read(path, "domain", ColumnsSpec(text="q", label="intent"))
    assert (found, problems) == ([("hi", "7")], [])
    assert rows.groups == ["chat"]
    assert read(path, None, ColumnsSpec(text="q", label="intent"))[2].groups is None


def test_taking_rows_keeps_columns_together(tmp_path):
    write_jsonl(tmp_path / "a.jsonl")
    taken = read(tmp_path / "a.jsonl")[2].take([2, 0])
    assert list(taken.texts) == [ROWS[2][0], ROWS[0][0]]
    assert taken.labels == ["greet", "open"]
    assert list(taken.origins) == [f"{tmp_path / 'a.jsonl'}:{n}" for n in (3, 1)]


def test_reading_in_memory_imports_no_ray():
    code = (
        "import sys, ratchet.pipelines.data.stream, ratchet.pipelines.data.batching;"
        "import ratchet.pipelines.data.tokens;"
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("number", "is_told"), [(errno.EIO, False), (errno.ESTALE, False), (errno.EACCES, True)]
)
@pytest.mark.parametrize("where", ["open", "info"])
def test_a_disk_that_fails_is_no_fault_of_the_rows(tmp_path, monkeypatch, number, is_told, where):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a", "label": "b"}\n', encoding="utf-8")
    if where == "info":
        path.unlink()  # `isfile` says no, whatever kept it from looking

    def fail(*_, **__):
        raise OSError(number, "it fails")

    monkeypatch.setattr(LocalFileSystem, where, fail)
    if is_told:
        assert read(path)[1]
        return
    with pytest.raises(OSError, match="it fails"):
        read(path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_a_text_that_a_parquet_file_packs_once_is_in_memory_once(tmp_path, kind):
    path, long = tmp_path / "a.parquet", "x" * 2**20
    texts = pa.array([long, "y", None] * 1000, pa.dictionary(pa.int32(), kind))
    table = pa.table({"text": texts, "label": [1, 2, 3] * 1000})
    pq.write_table(table, path, store_schema=False)
    before, most, rows = pa.total_allocated_bytes(), 0, []
    with path.open("rb") as file:
        for _, row in read_parquet(file, ["text", "label"]):
            most = max(most, pa.total_allocated_bytes() - before)
            rows.append(row)

    assert rows == [(long, 1), ("y", 2), (None, 3)] * 1000
    assert rows[0][0] is rows[3][0]
    assert most < 64 * 2**20
