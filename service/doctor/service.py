# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
# pyright: reportUnknownVariableType=false
"""Looks at every connection of a service, and says what to do about those that fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from ratchet.pipelines.errors import RatchetError
from ratchet.service.client.address import KEY_FILE, find_address
from ratchet.service.client.drivers import THIS_MACHINE
from ratchet.service.doctor.finding import Finding
from ratchet.service.settings import Settings
from ratchet.service.up.record import Record, read_record

ANSWER_SECONDS = 5.0
START = "Start it with `ratchet up`, or read its log below <home>/service/logs"


def examine_service(home: Path) -> Iterator[Finding]:
    """Look at a service: its database, controller, API, router, Ray, data roots and key file.

    Args:
        home: The service's home. One without a service is said to be so, and that is all.
    """
    settings, record = Settings(home=home), _record(home)
    if not _has_service(home, settings):
        yield Finding("service", "ok", "none on this home; `ratchet up` starts one")
        return
    address = find_address(home=home)
    yield from _database(settings)
    yield _key_file(home)
    yield _answer(
        "api", f"{address.url}/healthz", lambda found: f"{address.url}: {found['status']}"
    )
    if address.key is not None:
        yield _key(address.url, address.headers_of("api"))
    yield _answer("router", f"{address.router_url}/healthz", _router_words)
    if settings.launcher == "ray":
        yield _ray_jobs(settings, record, home)
    for root in settings.data_roots:
        if "://" in root:
            yield _remote_root(root)


def is_up(home: Path) -> bool:
    """Whether `ratchet up` runs on a home."""
    record = _record(home)
    return record is not None and record.is_alive


def _record(home: Path) -> Record | None:
    return read_record(home / "service" / "up.json")


def _has_service(home: Path, settings: Settings) -> bool:
    is_elsewhere = not settings.database_url.get_secret_value().startswith("sqlite:")
    named = "RATCHET_URL" in os.environ
    return named or is_elsewhere or (home / "ratchet.db").exists() or (home / "service").exists()


def _database(settings: Settings) -> Iterator[Finding]:
    """The database, and the lease of the controller in it."""
    from ratchet.service.store.database import Database
    from ratchet.service.store.leases import live_holder

    url = settings.database_url.get_secret_value()
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).exists():
        yield Finding("database", "warn", f"{url} is not there", "`ratchet up` makes it")
        return
    try:
        database = Database(url)
    except RatchetError as error:
        yield Finding("database", "fail", str(error), "Mend RATCHET_DATABASE_URL")
        return
    try:
        database.check()
        yield Finding("database", "ok", f"{database} answers, and has this release's tables")
        holder = live_holder(database, "controller")
    except RatchetError as error:
        advice = "`ratchet up` and the API lay the tables out; check RATCHET_DATABASE_URL"
        yield Finding("database", "fail", str(error), advice)
        return
    finally:
        database.dispose()
    if holder is not None:
        yield Finding("controller", "ok", f"{holder} holds the lease")
    else:
        found = "no controller has the lease: jobs are taken in, and none is started"
        yield Finding("controller", "warn", found, START)


def _key_file(home: Path) -> Finding:
    path = home / KEY_FILE
    if not path.is_file():
        advice = "`ratchet up` makes it; or set RATCHET_API_KEY (`ratchet keys create`)"
        return Finding("key file", "ok", f"{path} is not there", advice)
    mode = path.stat().st_mode & 0o777
    if mode & 0o077:
        return Finding(
            "key file", "fail", f"others may read {path} ({mode:o})", f"chmod 600 {path}"
        )
    return Finding("key file", "ok", f"{path} is readable by its owner alone")


def _key(url: str, headers: Mapping[str, str]) -> Finding:
    def words(found: Any) -> str:
        return f"{found['role']} of {', '.join(found['lineages'])} ({found['name']})"

    advice = "Make another with `ratchet keys create`, and set RATCHET_API_KEY"
    return _answer("key", f"{url}/v1/me", words, headers, advice)


def _ray_jobs(settings: Settings, record: Record | None, home: Path) -> Finding:
    """Ray's jobs port, with the token that this process or `ratchet up` has for it."""
    urls = {} if record is None else record.urls
    if record is not None and "ray" not in urls:
        return Finding("ray jobs", "ok", "not used: jobs run as plain processes")
    url = urls.get("ray", settings.ray_jobs_url)
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or home / "service" / "ray.token")
    if not token and path.is_file():
        token = path.read_text(encoding="utf-8").strip()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    advice = f"{START}; where tokens differ, set RAY_AUTH_TOKEN_PATH"
    version = f"{url}/api/version"
    return _answer(
        "ray jobs", version, lambda found: f"{url}: Ray {found['ray_version']}", headers, advice
    )


def _router_words(found: Any) -> str:
    serving = [own["lineage"] for own in found["lineages"] if own["serving"] is not None]
    return f"{found['status']}, serves {', '.join(serving) or 'no lineage yet'}"


def _answer(
    name: str,
    url: str,
    words: Callable[[Any], str],
    headers: Mapping[str, str] | None = None,
    advice: str = START,
) -> Finding:
    """What a URL answers, in words."""
    try:
        with httpx.Client(timeout=ANSWER_SECONDS, mounts=dict.fromkeys(THIS_MACHINE)) as http:
            found = http.get(url, headers=headers)
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        return Finding(name, "warn", f"{url} does not answer: {reason}", advice)
    if found.status_code != 200:
        return Finding(name, "warn", f"{url} answers {found.status_code}", advice)
    try:
        return Finding(name, "ok", words(found.json()))
    except (ValueError, KeyError, TypeError):
        return Finding(name, "warn", f"{url} is something else", "Check the port and RATCHET_URL")


def _remote_root(root: str) -> Finding:
    """A place of data on a store, looked at as a job would."""
    import fsspec

    advice = "Check AWS_ENDPOINT_URL, the credentials and the bucket, or RATCHET_DATA_ROOTS"
    try:
        files, path = fsspec.core.url_to_fs(root)
        files.ls(path)
    except ImportError as error:
        return Finding(
            f"data {root}", "fail", str(error), "pip install '.[s3]' in Ratchet's folder"
        )
    except (OSError, ValueError) as error:
        return Finding(f"data {root}", "warn", f"{root}: {error}", advice)
    return Finding(f"data {root}", "ok", f"{root} can be listed")
