"""Covers `uploads`, `file_content`, `routes.files`, `inputs.blobs`.

Uploads: what is taken, what is refused, and where it lies.
"""

import hashlib
import io
from collections import namedtuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ratchet.service.store.audit import list_audit
from tests.service.api.served import ROWS, serve

FORM = {"purpose": "fine-tune"}


def parquet(rows, num_rows=None):
    buffer = io.BytesIO()
    table = pa.Table.from_pylist(rows).slice(0, num_rows)
    pq.write_table(table, buffer, compression="zstd", use_dictionary=False)
    return buffer.getvalue()


PARQUET = parquet([{"text": "a", "label": "b"}])


def post(served, name, content, role="submitter", form=FORM):
    with served.client(role, raise_server_exceptions=False) as client:
        return client.post("/v1/files", files={"file": (name, content)}, data=form)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", ROWS),
        ("a.JSONL", ROWS),
        ("a.b-c_d (1).ndjson", b"\n" + ROWS),
        ("a.csv", b'text,label\n"a, b",c\n"two\nlines",d\n'),
        ("a.tsv", b"text\tlabel\na\tb\n"),
        ("a.txt", "Grüße\n".encode()),
        ("a.parquet", PARQUET),
        ("ä.jsonl", ROWS),
    ],
)
def test_rows_that_can_be_read_are_kept_under_their_hash(served, name, content):
    response = post(served, name, content)

    assert response.status_code == 200, response.text
    file = response.json()
    assert (file["filename"], file["bytes"], file["purpose"]) == (name, len(content), "fine-tune")
    digest = hashlib.sha256(content).hexdigest()
    suffix = name[name.rindex(".") :].lower()
    blob = served.settings.home / "files" / digest[:2] / f"{digest}{suffix}"
    assert blob.read_bytes() == content
    assert list((served.settings.home / "files" / "incoming").iterdir()) == []
    assert [entry.action for entry in list_audit(served.db, object_id=file["id"])] == [
        "file.create"
    ]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.jsonl", b"", "no rows"),
        ("a.jsonl", b"\n\n", "no rows"),
        ("a.jsonl", b'{"text": "a"}\n[1]\n', "line 2"),
        ("a.jsonl", b'{"text": "a"}\n{"text"', "line 2"),
        ("a.jsonl", b'{"text": "\xff"}', "not UTF-8"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\\ud83d"}', "line 2: broken row: half a character"),
        ("a.jsonl", b"[" * 100_000, "nested"),
        ("a.jsonl", b'{"a": ' + b"9" * 5000 + b"}", "line 1"),
        ("a.jsonl", b'{"a": "' + b"x" * 2**20 + b'"}', "longer than"),
        ("a.csv", b"text,label\na\n", "line 2"),
        ("a.csv", b'text,label\n"a', "line 2"),
        ("a.csv", b"text,label\n", "no rows"),
        ("a.txt", b"\xff\xfe", "not UTF-8"),
        ("a.parquet", b"PAR1" + b"\0" * 100 + b"PAR1", "Parquet"),
        ("a.parquet", ROWS, "Parquet"),
        ("a.parquet", PARQUET[:-4], "Parquet"),
        ("a.parquet", parquet([{"text": "x" * 100_000}] * 500), "unpacked"),
        ("a.exe", ROWS, "end in"),
        ("a.jsonl.gz", ROWS, "end in"),
        ("a.pkl", ROWS, "end in"),
        ("a", ROWS, "end in"),
        ("../../etc/a.jsonl", ROWS, "no folder"),
        ("..\\a.jsonl", ROWS, "no folder"),
        ("x" * 300 + ".jsonl", ROWS, "file name"),
    ],
)
def test_what_is_no_rows_is_refused_and_nothing_is_left(served, name, content, reason):
    response = post(served, name, content)

    assert response.status_code == 400, response.text
    assert reason in response.text
    assert response.json()["error"]["param"] == "file"
    assert [path for path in served.settings.home.glob("files/**/*") if path.is_file()] == []


def test_the_rows_of_a_parquet_file_are_not_unpacked_here(served, monkeypatch):
    """Its footer may lie about what that takes."""
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", lambda *_, **__: pytest.fail("unpacked"))
    assert post(served, "a.parquet", PARQUET).status_code == 200
    wide = parquet([{f"c{n}": 1 for n in range(1001)}])
    assert "more than 1000 columns" in post(served, "b.parquet", wide).text
    assert "no rows" in post(served, "c.parquet", parquet([{"a": 1}], num_rows=0)).text


def test_uploads_leave_room_on_the_disk(served, monkeypatch):
    free = namedtuple("Usage", "free")(2**30 + served.settings.max_upload_bytes - 1)
    monkeypatch.setattr("ratchet.service.inputs.blobs.shutil.disk_usage", lambda _: free)
    response = post(served, "a.jsonl", ROWS)
    assert response.status_code == 503
    assert "almost full" in response.json()["error"]["message"]


def nested(levels):
    """A Parquet file that is a footer alone, of a column that lies levels deep; made by hand."""
    group, leaf = b"\x35\x00\x18\x01a\x15\x02\x00", b"\x15\x0c\x25\x00\x18\x01a\x00"
    count = bytes([(levels + 1) & 127 | 128, (levels + 1) >> 7 & 127 | 128, (levels + 1) >> 14])
    schema = b"\x19\xfc" + count + group * levels + leaf
    footer = b"\x15\x02" + schema + b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1"


def test_a_schema_that_nests_without_end_does_not_end_the_service(served):
    assert "no rows" in post(served, "a.parquet", nested(1000)).text
    response = post(served, "b.parquet", nested(50_000))
    assert response.status_code == 400
    assert "not a readable Parquet file" in response.text


def test_a_long_footer_is_refused_unread(served):
    content = b"PAR1" + bytes(3 * 2**20) + (3 * 2**20).to_bytes(4, "little") + b"PAR1"
    response = post(served, "a.parquet", content)
    assert response.status_code == 400
    assert "its footer is longer than" in response.text


def test_a_key_holds_so_much_and_an_admins_any_amount(tmp_path):
    served = serve(tmp_path / "home", max_key_bytes=2 * len(ROWS) + 1)
    first = served.upload()
    served.upload()
    refused = post(served, "a.jsonl", ROWS)
    with served.client() as client:
        client.delete(f"/v1/files/{first}")

    assert refused.status_code == 413
    assert "delete some" in refused.json()["error"]["message"]
    assert post(served, "a.jsonl", ROWS).status_code == 200
    assert [post(served, "a.jsonl", ROWS, "admin").status_code for _ in range(4)] == [200] * 4
    served.db.dispose()


def test_a_key_that_has_no_place_left_is_refused_before_its_upload_is_read(tmp_path):
    served = serve(tmp_path / "home", max_key_bytes=len(ROWS))
    served.upload()
    with served.client() as client:
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        response = client.post("/v1/files", content=b"nonsense", headers=kind)

    assert response.status_code == 413
    served.db.dispose()


@pytest.mark.parametrize("form", [{}, {"purpose": "assistants"}, {**FORM, "extra": "x"}])
def test_a_form_that_says_something_else_is_refused(served, form):
    assert post(served, "a.jsonl", ROWS, form=form).status_code == 400


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"--x\r\n\r\n--x--", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (
            b"--x\r\nContent-Disposition: form-data\r\n\r\n1\r\n--x--",
            "multipart/form-data; boundary=x",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"\r\n\r\n1\r\n--x--',
            "multipart/form-data; boundary=x",
        ),
        (b"--x\r\n" + b"A: b\r\n" * 5000, "multipart/form-data; boundary=x"),
        (b"x", "multipart/form-data; boundary=" + "x" * 500),
    ],
)
def test_a_broken_form_is_refused(served, body, kind):
    with served.client(raise_server_exceptions=False) as client:
        response = client.post("/v1/files", content=body, headers={"Content-Type": kind})

    assert response.status_code == 400, response.text


def test_an_upload_that_is_too_long_is_refused(tmp_path):
    served = serve(tmp_path / "home", max_upload_bytes=len(ROWS))

    assert post(served, "a.jsonl", ROWS).status_code == 200
    assert post(served, "b.jsonl", ROWS + b"\n").status_code == 413
    assert post(served, "b.jsonl", ROWS * 5000).status_code == 413
    assert len(list(served.settings.home.glob("files/??/*"))) == 1
    served.db.dispose()


def test_uploads_are_listed_paged_and_read_by_their_owner_and_admins(served):
    ids = [served.upload(content=ROWS + b"\n" * n) for n in range(3)]
    with served.client() as client:
        first = client.get("/v1/files?limit=2").json()
        rest = client.get(f"/v1/files?after={first['last_id']}").json()
        oldest = client.get("/v1/files?order=asc&purpose=fine-tune").json()
        none = client.get("/v1/files?purpose=labelled").json()
        content = client.get(f"/v1/files/{ids[1]}/content")
        own = client.get("/v1/files", params={"sha256": first["data"][1]["sha256"]}).json()
    with served.client("promoter") as client:
        others = client.get("/v1/files", params={"sha256": first["data"][1]["sha256"]}).json()
    with served.client("admin") as client:
        admins = client.get("/v1/files", params={"sha256": first["data"][1]["sha256"]}).json()
    assert [one["id"] for one in first["data"] + rest["data"]] == ids[::-1]
    assert [one["id"] for one in oldest["data"]] == ids
    assert none["data"] == []
    digest = hashlib.sha256(ROWS + b"\n").hexdigest()
    assert [one["sha256"] for one in first["data"]][1] == digest
    assert [one["id"] for one in own["data"]] == [ids[1]]
    assert others["data"] == admins["data"] == []
    assert content.content == ROWS + b"\n"
    assert content.headers["content-type"] == "application/octet-stream"
    assert content.headers["x-content-type-options"] == "nosniff"
    assert 'filename="banking.train.jsonl"' in content.headers["content-disposition"]
    with served.client("admin") as client:
        assert client.get(f"/v1/files/{ids[0]}").status_code == 200
        assert len(client.get("/v1/files").json()["data"]) == 3


def test_a_list_goes_on_after_an_upload_that_was_deleted_meanwhile(served):
    ids = [served.upload(content=ROWS + b"\n" * n) for n in range(3)]
    with served.client() as client:
        client.delete(f"/v1/files/{ids[1]}")
        older = client.get(f"/v1/files?after={ids[1]}").json()["data"]
        newer = client.get(f"/v1/files?after={ids[1]}&order=asc").json()["data"]
        nothing = client.get("/v1/files?after=file-" + "0" * 24)
    with served.client("promoter") as client:
        others = client.get(f"/v1/files?after={ids[1]}")
    with served.client("admin") as client:
        admins = client.get(f"/v1/files?after={ids[1]}").json()["data"]

    assert [one["id"] for one in older] == [one["id"] for one in admins] == [ids[0]]
    assert [one["id"] for one in newer] == [ids[2]]
    assert (nothing.status_code, others.status_code) == (404, 404)


@pytest.mark.parametrize("path", ["/v1/files/{}", "/v1/files/{}/content", "/v1/files?after={}"])
def test_another_keys_upload_does_not_exist(served, path):
    file_id = served.upload()
    with served.client("promoter") as client:
        assert client.get(path.format(file_id)).status_code == 404
        assert client.delete(f"/v1/files/{file_id}").status_code == 404
        response = client.post("/v1/updates", json={"spec": served.spec(train=file_id)})

    assert response.status_code == 422
    assert "no such upload" in response.json()["errors"][0]["detail"]


def test_a_deleted_upload_is_gone_with_its_content_once_nothing_names_it(served):
    first, second = served.upload(), served.upload("promoter")
    (blob,) = served.settings.home.glob("files/??/*")
    with served.client() as client:
        assert client.delete(f"/v1/files/{first}").json() == {
            "id": first,
            "object": "file",
            "deleted": True,
        }
        assert client.get(f"/v1/files/{first}/content").status_code == 404
        assert client.delete(f"/v1/files/{first}").status_code == 404
    assert blob.exists()
    with served.client("promoter") as client:
        client.delete(f"/v1/files/{second}")
    assert not blob.exists()


def test_an_upload_that_a_job_will_read_is_not_deleted(served):
    file_id = served.upload()
    job_id = served.submit(train=file_id)
    with served.client() as client:
        refused = client.delete(f"/v1/files/{file_id}")
        client.post(f"/v1/updates/{job_id}/cancel")
        allowed = client.delete(f"/v1/files/{file_id}")

    assert (refused.status_code, allowed.status_code) == (409, 200)
    assert job_id in refused.json()["detail"]
