"""The verbs `versions`, `promote` and `rollback` where a service is asked."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.service.cli.service_access import client_of
from ratchet.service.cli.session import Session
from ratchet.service.cli.version_tables import say_lineages, say_versions
from ratchet.service.client import Client, VersionView

Change = tuple[str, int, int | None]
"""A lineage, its champion, and the champion before."""


def versions(session: Session, lineage: str | None, url: str | None) -> None:
    """List what a service has."""
    with client_of(session, url) as client:
        if lineage is None:
            rows = [_lineage(client, name) for name in (own.name for own in client.lineages())]
            say_lineages(session, rows, f"at {client.address.url}", "ratchet submit")
            return
        client.lineage(lineage)  # says so where there is none
        rows = [_row(version) for version in client.versions(lineage)]
    say_versions(session, lineage, sorted(rows, key=lambda row: row["version"]))


def promote(session: Session, reference: str, url: str | None) -> Change:
    """Promote `LINEAGE[@VERSION]`, by default the challenger."""
    lineage, _, wanted = reference.partition("@")
    if wanted not in ("", "challenger") and not (wanted.isascii() and wanted.isdecimal()):
        raise SpecError([Problem("LINEAGE[@VERSION]", "the version must be a number", reference)])
    number = int(wanted) if wanted.isdecimal() else None
    with client_of(session, url) as client:
        made = client.promote(lineage, number)
    return lineage, made.version, made.previous


def rollback(session: Session, lineage: str, url: str | None) -> Change:
    """Have the champion before the present one answer again."""
    with client_of(session, url) as client:
        seen = client.lineage(lineage).champion  # two who do it at once do it once
        made = client.rollback(lineage, expected_champion=seen)
    return lineage, made.version, made.previous


def _lineage(client: Client, name: str) -> dict[str, Any]:
    own = client.lineage(name)
    return {
        "lineage": name,
        "versions": sorted(version.number for version in client.versions(name)),
        "champion": own.champion,
        "challenger": own.challenger,
    }


def _row(version: VersionView) -> dict[str, Any]:
    """A version in the words of a registry's row."""
    manifest = version.manifest
    metrics = manifest.get("metrics") or {}
    named = {"champion": version.is_champion, "challenger": version.is_challenger}
    return {
        "version": version.number,
        "created": datetime.fromtimestamp(version.created_at, UTC).isoformat(timespec="seconds"),
        "parent": version.parent,
        "tasks": [_name(task) for task in manifest.get("tasks") or ()],
        "methods": [_type(method) for method in manifest.get("methods") or ()],
        "average_accuracy": metrics.get("average_accuracy"),
        "forgetting": metrics.get("forgetting"),
        "aliases": [alias for alias, held in named.items() if held],
    }


def _name(task: str | dict[str, Any]) -> str:
    return task if isinstance(task, str) else task["name"]


def _type(method: str | dict[str, Any]) -> str:
    return method if isinstance(method, str) else method["type"]
