"""Covers, beside `layout`: `parts`, `secrets`."""

import socket

import pytest

from ratchet.pipelines.errors import SpecError
from ratchet.service.settings import Settings
from ratchet.service.up.layout import MARK, Layout, check_ports, free_port
from ratchet.service.up.parts import parts_of
from ratchet.service.up.secrets import make_admin_key, make_ray_token


def ports(number):
    found = set()
    while len(found) < number:
        found.add(free_port())
    return sorted(found)


def test_free_ports_are_fine(tmp_path):
    check_ports(Layout(tmp_path, *ports(5)))


def test_all_taken_ports_and_ports_given_twice_are_said_at_once(tmp_path):
    free, *_ = ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SpecError) as caught:
            check_ports(Layout(tmp_path, free, free, port, None))
    assert {problem.where: problem.value for problem in caught.value.problems} == {
        "--router-port": free,
        "--mlflow-port": port,
    }


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, ["ray", "mlflow", "api", "controller", "router"]),
        ({"ray_port": None}, ["mlflow", "api", "controller", "router"]),
        ({"mlflow_port": None, "router_port": None}, ["ray", "api", "controller"]),
    ],
)
def test_what_is_left_out_is_not_started_nor_needed(tmp_path, options, names):
    parts = parts_of(Layout(tmp_path, **options))
    assert [part.name for part in parts] == names
    assert all(set(part.needs) <= set(names) for part in parts)


def test_every_part_is_marked_and_told_where_the_others_are(tmp_path):
    layout = Layout(tmp_path, 1, 2, 3, 4, 5)
    for part in parts_of(layout):
        assert part.environment[MARK] == layout.mark
        assert part.environment["RATCHET_HOME"] == str(tmp_path)
        assert part.environment["RATCHET_RAY_JOBS_URL"] == "http://127.0.0.1:5"
        assert part.environment["RATCHET_TRACKING_URI"] == "http://127.0.0.1:3"
        assert part.environment["RATCHET_LAUNCHER"] == "ray"
        assert part.environment["RAY_AUTH_MODE"] == "token"
    [api] = [part for part in parts_of(Layout(tmp_path, ray_port=None)) if part.name == "api"]
    assert api.environment["RATCHET_LAUNCHER"] == "process"


def test_no_part_looks_for_modules_in_the_users_folder(tmp_path):
    """Those that start processes of their own run elsewhere."""
    parts = {part.name: part for part in parts_of(Layout(tmp_path))}
    for name in ("mlflow", "api", "controller", "router"):
        assert parts[name].command[1:3] == ["-P", "-m"]
    folders = {name: part.folder for name, part in parts.items() if part.folder is not None}
    assert folders == dict.fromkeys(("ray", "mlflow"), tmp_path / "service")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("sqlite:///own.db", "sqlite:///{here}/own.db"),
        ("sqlite:////var/own.db", "sqlite:////var/own.db"),
        ("http://tracking:5000", "http://tracking:5000"),
    ],
)
def test_a_tracking_store_is_the_same_wherever_a_part_runs(tmp_path, monkeypatch, given, told):
    monkeypatch.chdir(tmp_path)
    for part in parts_of(Layout(tmp_path, mlflow_port=None, tracking_uri=given)):
        assert part.environment["RATCHET_TRACKING_URI"] == told.format(here=tmp_path)


def test_the_databases_url_reaches_those_alone_who_need_it(tmp_path, monkeypatch):
    for name in ("RATCHET_DATABASE_URL", "RATCHET_API_KEY", "RATCHET_STORE"):
        monkeypatch.setenv(name, "secret")
    parts = {part.name: part.variables for part in parts_of(Layout(tmp_path))}
    told = {name for name, own in parts.items() if "RATCHET_DATABASE_URL" in own}
    assert told == {"api", "controller"}
    assert not any("RATCHET_API_KEY" in parts[name] for name in ("ray", "router", "mlflow"))
    assert all(own["RATCHET_STORE"] == "secret" for own in parts.values())
    assert all("PATH" in own and own["RATCHET_HOME"] == str(tmp_path) for own in parts.values())


def test_homes_have_marks_of_their_own(tmp_path):
    assert Layout(tmp_path).mark == Layout(tmp_path).mark != Layout(tmp_path / "other").mark


def test_the_admin_key_is_made_once_and_again_where_the_database_lost_it(tmp_path):
    from ratchet.service.store.database import Database
    from ratchet.service.store.keys import authenticate

    settings, path = Settings(home=tmp_path), tmp_path / "service" / "admin.key"
    assert make_admin_key(path, settings)
    secret = path.read_text(encoding="utf-8").strip()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not make_admin_key(path, settings)
    assert path.read_text(encoding="utf-8").strip() == secret
    database = Database(settings.database_url)
    assert authenticate(database, secret).role == "admin"
    database.dispose()
    for file in tmp_path.glob("ratchet.db*"):
        file.unlink()
    assert make_admin_key(path, settings)
    assert path.read_text(encoding="utf-8").strip() != secret


def test_rays_token_is_kept_and_for_nobody_else(tmp_path):
    path = tmp_path / "service" / "ray.token"
    make_ray_token(path)
    token = path.read_text(encoding="utf-8")
    make_ray_token(path)
    assert path.read_text(encoding="utf-8") == token
    assert len(token.strip()) == 64
    assert path.stat().st_mode & 0o777 == 0o600
