import asyncio
import os
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ratchet.pipelines.errors import SpecError
from ratchet.service.client.address import find_address
from ratchet.service.client.drivers import AwaitingDriver, BlockingDriver
from ratchet.service.up.layout import Layout
from ratchet.service.up.parts import parts_of
from ratchet.service.up.record import Record
from ratchet.service.up.stray_processes import began

PROXIES = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
HEAVY = ("torch", "ray", "sqlalchemy", "fastapi", "transformers", "mlflow", "numpy")
IMPORT = f"""
import sys
from ratchet.service.client import AsyncClient, Client
ours = sum(name.startswith("ratchet.") for name in sys.modules)
print(ours, len(sys.modules), *(name for name in {HEAVY} if name in sys.modules))
"""


@pytest.fixture
def home(tmp_path, monkeypatch):
    for name in ("URL", "API_KEY", "HOME", "ROUTER_URL"):
        monkeypatch.delenv(f"RATCHET_{name}", raising=False)
    (tmp_path / "service").mkdir()
    (tmp_path / "service" / "admin.key").write_text("rk_home\n", encoding="utf-8")
    record(tmp_path, "http://127.0.0.1:9001")
    return tmp_path


def record(home, api):
    """Say where the service of a home listens, as `ratchet up` does; it runs in this process."""
    urls = {"api": api, "router": "http://127.0.0.1:9002"}
    Record(os.getpid(), began(os.getpid()), "mark", urls).write(home / "service" / "up.json")


def test_the_service_of_a_home_is_found_with_its_key(home):
    found = find_address(home=home)
    assert (found.url, found.router_url) == ("http://127.0.0.1:9001", "http://127.0.0.1:9002")
    assert found.key == "rk_home"
    assert "rk_home" not in repr(found)


def test_variables_come_before_the_home_and_arguments_before_both(home, monkeypatch):
    monkeypatch.setenv("RATCHET_URL", "http://127.0.0.1:7/")
    monkeypatch.setenv("RATCHET_API_KEY", "rk_variable")
    monkeypatch.setenv("RATCHET_ROUTER_URL", "https://router.test")
    found = find_address(home=home)
    assert (found.url, found.key) == ("http://127.0.0.1:7", "rk_variable")
    assert found.router_url == "https://router.test"
    found = find_address("https://api.test", "rk_argument", home)
    assert (found.url, found.key) == ("https://api.test", "rk_argument")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://127.0.0.1:9001", "rk_home"),
        ("http://127.0.0.1:9001/", "rk_home"),
        ("http://127.0.0.1:9001/v2", None),
        ("http://127.0.0.1:8080", None),
        ("http://localhost:9001", None),
        ("https://127.0.0.1:9001", None),
        ("https://elsewhere.test", None),
    ],
)
def test_the_key_of_a_home_is_for_the_service_that_it_recorded(home, monkeypatch, url, key):
    assert find_address(url, home=home).key == key
    monkeypatch.setenv("RATCHET_URL", url)
    assert find_address(home=home).key == key
    monkeypatch.setenv("RATCHET_API_KEY", "rk_variable")
    assert find_address(home=home).key == "rk_variable"


def test_the_key_of_a_home_leaves_this_machine_never(home):
    for url in ("https://elsewhere.test", "http://localhost.elsewhere.test:5"):
        record(home, url)
        assert (find_address(home=home).url, find_address(home=home).key) == (url, None)


def test_a_home_whose_service_does_not_run_shows_its_key_to_nobody(home):
    (home / "service" / "up.json").unlink()
    found = find_address(home=home)
    assert (found.url, found.key) == ("http://127.0.0.1:8080", None)


def test_a_home_whose_service_was_killed_shows_its_key_to_nobody(home):
    path = home / "service" / "up.json"
    ended = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    urls = {"api": "http://127.0.0.1:9001"}
    Record(ended.pid, began(ended.pid), "mark", urls).write(path)
    assert find_address(home=home).key == "rk_home"
    ended.kill()
    ended.communicate()
    assert find_address(home=home).key is None
    assert find_address("http://127.0.0.1:9001", home=home).key is None
    # Another process has its number by now.
    Record(os.getpid(), began(os.getpid()) - 60, "mark", urls).write(path)
    assert find_address("http://127.0.0.1:9001", home=home).key is None


class Answers(BaseHTTPRequestHandler):
    """Says that all is well."""

    def do_GET(self):
        body = b'{"controller": true}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def port(monkeypatch):
    """Of a server on this machine, where the variables name a proxy that is not there."""
    for name in PROXIES:
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_no_proxy_is_shown_the_key_of_a_service_on_this_machine(home, port, host):
    record(home, f"http://{host}:{port}")
    address = find_address(home=home)
    assert address.key == "rk_home"
    blocking = BlockingDriver(address, 5.0).http
    with blocking:
        assert blocking.get(address.url).is_success

    async def ask():
        async with AwaitingDriver(address, 5.0).http as awaiting:
            return await awaiting.get(address.url)

    assert asyncio.run(ask()).is_success


def test_the_parts_of_a_service_are_asked_without_a_proxy(tmp_path, port):
    parts = {part.name: part for part in parts_of(Layout(tmp_path, api_port=port))}
    assert parts["api"].is_ready()
    assert parts["controller"].is_ready()


def test_without_anything_the_usual_ports_are_meant(tmp_path, monkeypatch, home):
    found = find_address(home=tmp_path / "none")
    assert (found.url, found.router_url, found.key) == (
        "http://127.0.0.1:8080",
        "http://127.0.0.1:8000",
        None,
    )


@pytest.mark.parametrize("url", ["127.0.0.1:8080", "ftp://x", "http://", "nonsense"])
def test_what_is_no_url_is_refused(home, url):
    with pytest.raises(SpecError, match="must begin with http"):
        find_address(url, home=home)


def test_the_client_loads_little_and_nothing_heavy():
    command = [sys.executable, "-c", IMPORT]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    ours, every, *heavy = done.stdout.split()
    assert heavy == []
    # What a start costs, counted instead of timed: 31 of ours and 434 in all when this was written.
    assert int(ours) < 50
    assert int(every) < 650
