"""Where the service is, and with which key one speaks to it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.service.client.steps import Server
from ratchet.service.up.record import read_record

DEFAULT_URL = "http://127.0.0.1:8080"
DEFAULT_ROUTER_URL = "http://127.0.0.1:8000"
DEFAULT_HOME = ".ratchet"
KEY_FILE = Path("service", "admin.key")
RECORD_FILE = Path("service", "up.json")
LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True)
class Address:
    """The two servers and the key.

    Attributes:
        url: Of the API.
        router_url: Of the router, which answers inference.
        key: The API key, or None.
    """

    url: str
    router_url: str
    key: str | None = field(default=None, repr=False)

    def url_of(self, server: Server) -> str:
        """The base URL of a server."""
        return self.url if server == "api" else self.router_url

    def headers_of(self, server: Server) -> dict[str, str]:
        """The headers of every request to a server; the router is not shown the key."""
        if self.key is None or server != "api":
            return {}
        return {"Authorization": f"Bearer {self.key}"}


def find_address(
    url: str | None = None,
    api_key: str | None = None,
    home: str | Path | None = None,
    router_url: str | None = None,
) -> Address:
    """The service that is meant: by argument, by `RATCHET_…` variables, or that of a home.

    The key of a home is sent to nobody but the service that `ratchet up` of the home recorded, and
    only while that runs: any program may listen at the port of one that does not.

    Args:
        url: Of the API; by default `RATCHET_URL`, then what `ratchet up` of the home recorded.
        api_key: By default `RATCHET_API_KEY`, then the home's own for the URL that it recorded.
        home: By default `RATCHET_HOME`, then `.ratchet`.
        router_url: By default `RATCHET_ROUTER_URL`, then what was recorded.

    Raises:
        SpecError: The URL is none.
    """
    folder = Path(home or os.environ.get("RATCHET_HOME") or DEFAULT_HOME)
    recorded = recorded_urls(folder)
    chosen = url or os.environ.get("RATCHET_URL") or recorded.get("api") or DEFAULT_URL
    key = api_key or os.environ.get("RATCHET_API_KEY") or None
    is_own = chosen.rstrip("/") == recorded.get("api")
    if _checked(chosen) in LOOPBACK and is_own and key is None:
        key = home_key(folder)
    router = router_url or os.environ.get("RATCHET_ROUTER_URL") or recorded.get("router")
    router = router or DEFAULT_ROUTER_URL
    _checked(router)
    return Address(chosen.rstrip("/"), router.rstrip("/"), key)


def recorded_urls(home: Path) -> dict[str, str]:
    """The URLs of the service that `ratchet up` runs on a home, by part; none without one."""
    record = read_record(home / RECORD_FILE)
    return {} if record is None or not record.is_alive else dict(record.urls)


def home_key(home: Path) -> str | None:
    """The administrator's key of a home, or None where it has none."""
    try:
        return (home / KEY_FILE).read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None


def _checked(url: str) -> str | None:
    """The host of a URL."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SpecError([Problem("url", "must begin with http:// or https:// and a host", url)])
    return parts.hostname
