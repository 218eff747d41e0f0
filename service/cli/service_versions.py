"""The verbs `versions`, `promote` and `rollback` where a service is asked."""

from __future__ import annotations

from datetime import UTC, datetime

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.service.cli.service_access import client_of
from ratchet.service.cli.session import Session
from ratchet.service.cli.version_tables import LineageRow, VersionRow, say_lineages, say_versions
from ratchet.service.client import Client, VersionView
from ratchet.service.schemas.version_facts import VersionFacts

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
    say_versions(session, lineage, sorted(rows, key=lambda row: row.version))


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


def _lineage(client: Client, name: str) -> LineageRow:
    own = client.lineage(name)
    numbers = sorted(version.number for version in client.versions(name))
    return LineageRow(name, numbers, own.champion, own.challenger)


def _row(version: VersionView) -> VersionRow:
    """A version in the words of a registry's row."""
    facts = VersionFacts.model_validate(version.manifest)
    named = {"champion": version.is_champion, "challenger": version.is_challenger}
    return VersionRow(
        version=version.number,
        created=datetime.fromtimestamp(version.created_at, UTC).isoformat(timespec="seconds"),
        parent=version.parent,
        tasks=facts.tasks,
        methods=[str(method["type"]) for method in facts.methods],
        average_accuracy=_number(facts, "average_accuracy"),
        forgetting=_number(facts, "forgetting"),
        aliases=[alias for alias, held in named.items() if held],
    )


def _number(facts: VersionFacts, metric: str) -> float | None:
    found = facts.metrics.get(metric)
    return found if isinstance(found, int | float) else None
