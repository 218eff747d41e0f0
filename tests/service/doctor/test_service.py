"""Covers, beside `service`: `finding`."""

import json

import pytest

from ratchet.service.doctor.service import examine_service
from ratchet.service.store.database import Database
from ratchet.service.store.leases import acquire, get_lease, renew
from ratchet.service.up.secrets import make_admin_key
from tests.service.api.served import listening, serve
from tests.service.cli.test_updates import call

NAMES = ("URL", "API_KEY", "ROUTER_URL", "DATABASE_URL", "LAUNCHER", "DATA_ROOTS", "HOME")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch):
    for name in NAMES:
        monkeypatch.delenv(f"RATCHET_{name}", raising=False)


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home whose service runs, all but its router and Ray."""
    home = tmp_path / "home"
    served = serve(home)
    make_admin_key(home / "service" / "admin.key", served.settings)
    monkeypatch.setenv("RATCHET_ROUTER_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("RATCHET_RAY_JOBS_URL", "http://127.0.0.1:9")
    with listening(served.app) as url:
        monkeypatch.setenv("RATCHET_URL", url)
        secret = (home / "service" / "admin.key").read_text(encoding="utf-8").strip()
        monkeypatch.setenv("RATCHET_API_KEY", secret)
        acquire(served.db, "controller", "one", 60.0)
        yield home
    served.db.dispose()


def found_in(home):
    return {finding.name: finding for finding in examine_service(home)}


def test_a_home_without_a_service_gets_one_line(tmp_path):
    [finding] = examine_service(tmp_path)
    assert (finding.status, "ratchet up" in finding.found) == ("ok", True)


@pytest.mark.slow
def test_every_connection_is_looked_at_and_what_fails_has_an_advice(home):
    found = found_in(home)
    statuses = {name: finding.status for name, finding in found.items()}
    assert statuses == {
        "database": "ok",
        "controller": "ok",
        "key file": "ok",
        "api": "ok",
        "key": "ok",
        "router": "warn",
        "ray jobs": "warn",
    }
    assert found["key"].found == "admin of * (ratchet up)"
    assert all(finding.advice for finding in found.values() if finding.status != "ok")
    listed = json.loads(call("doctor", "--home", home, "--json").stdout)["findings"]
    assert set(found) <= {finding["name"] for finding in listed}


@pytest.mark.slow
def test_a_lease_that_ran_out_a_wrong_key_and_an_open_key_file_are_found(home, monkeypatch):
    path = home / "service" / "admin.key"
    path.chmod(0o644)
    monkeypatch.setenv("RATCHET_API_KEY", "rk_00000000_" + "0" * 43)
    db = Database(f"sqlite:///{home / 'ratchet.db'}")
    renew(db, get_lease(db, "controller"), -1.0)
    db.dispose()
    found = found_in(home)
    assert {name for name, finding in found.items() if finding.status != "ok"} >= {
        "controller",
        "key",
        "key file",
    }
    assert "401" in found["key"].found
    assert found["key file"].advice == f"chmod 600 {path}"


def test_a_database_that_is_missing_or_without_tables_is_said(tmp_path):
    (tmp_path / "service").mkdir()
    assert found_in(tmp_path)["database"].status == "warn"
    assert not (tmp_path / "ratchet.db").exists()
    (tmp_path / "ratchet.db").touch()
    finding = found_in(tmp_path)["database"]
    assert finding.status == "fail"
    assert "ratchet up" in finding.advice


def test_a_data_root_that_cannot_be_listed_is_said(tmp_path, monkeypatch):
    (tmp_path / "service").mkdir()
    monkeypatch.setenv("RATCHET_DATA_ROOTS", "memory://no-such-folder")
    finding = found_in(tmp_path)["data memory://no-such-folder"]
    assert (finding.status, "RATCHET_DATA_ROOTS" in finding.advice) == ("warn", True)
