"""The verbs about versions: `versions`, `promote`, `rollback`, `evaluate`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from service.cli.session import Session

if TYPE_CHECKING:
    from pipelines.registry import Registry

LineageArgument = Annotated[str, typer.Argument(help="Name of the lineage.")]


def versions(
    session: Session,
    lineage: Annotated[str | None, typer.Argument(help="Name of the lineage.")] = None,
) -> None:
    """List the versions of LINEAGE, or the lineages that exist."""
    registry = registry_of(session)
    if lineage is None:
        _list_lineages(session, registry)
        return
    if lineage not in registry.lineages():
        registry.resolve(lineage)  # names the nearest that exist
    rows = [_row(registry, lineage, number) for number in registry.versions(lineage)]
    if session.as_json:
        session.emit({"lineage": lineage, "versions": rows})
        return
    table = Table(show_edge=False)
    for name in ("version", "created", "from", "tasks", "average accuracy", "forgetting", "is"):
        table.add_column(name, no_wrap=name != "tasks")
    for row in rows:
        table.add_row(*_cells(row))
    session.out.print(table)


def promote(
    session: Session,
    reference: Annotated[
        str, typer.Argument(metavar="LINEAGE[@VERSION]", help="By default the challenger.")
    ],
) -> None:
    """Make a version the champion, whatever the gate said of it."""
    registry = registry_of(session)
    lineage, _, wanted = reference.partition("@")
    number = int(registry.resolve(f"{lineage}@{wanted or 'challenger'}").name)
    before = registry.champion(lineage)
    registry.promote(lineage, number)
    _say_champion(session, lineage, number, before)


def rollback(session: Session, lineage: LineageArgument) -> None:
    """Make the champion before this one the champion again."""
    registry = registry_of(session)
    if lineage not in registry.lineages():
        registry.resolve(lineage)
    before = registry.champion(lineage)
    _say_champion(session, lineage, registry.rollback(lineage), before)


def evaluate(
    session: Session,
    reference: Annotated[str, typer.Argument(metavar="LINEAGE[@VERSION]")],
    spec: Annotated[Path, typer.Argument(help="The spec that names the tasks and their data.")],
) -> None:
    """Measure a version on the tasks of SPEC, matched by name, without training."""
    from pipelines.spec_file import load_spec

    folder = registry_of(session).resolve(reference)
    data = load_spec(spec)
    from pipelines.evaluate import evaluate_version
    from pipelines.quiet import quiet_libraries
    from service.result_view import show_scores

    quiet_libraries()
    with session.err.status("measuring …"):
        found = evaluate_version(data, folder)
    for warning in found["warnings"]:
        session.err.print(f"[yellow]warning:[/] {escape(warning)}", soft_wrap=True)
    if session.as_json:
        session.emit(found)
    else:
        show_scores(found, session.out)


def registry_of(session: Session) -> Registry:
    """The registry below the session's home."""
    from pipelines.mlflow_client import default_tracking_uri
    from pipelines.registry import Registry

    uri = session.tracking_uri or default_tracking_uri(session.home)
    return Registry(session.home, uri)


def _say_champion(session: Session, lineage: str, number: int, before: int | None) -> None:
    if session.as_json:
        session.emit({"lineage": lineage, "champion": number, "previous": before})
        return
    was = "there was none before" if before is None else f"it was version {before}"
    session.out.print(f"Version {number} of {escape(lineage)} is champion ({was}).")


def _list_lineages(session: Session, registry: Registry) -> None:
    rows: list[dict[str, Any]] = []
    for name in registry.lineages():
        aliases = registry.aliases(name)
        rows.append(
            {
                "lineage": name,
                "versions": registry.versions(name),
                "champion": aliases.champion,
                "challenger": aliases.challenger,
            }
        )
    if session.as_json:
        session.emit({"lineages": rows})
        return
    if not rows:
        session.out.print(f"No lineage below {escape(str(session.home))} yet. Next: ratchet run")
        return
    table = Table(show_edge=False)
    for header in ("lineage", "versions", "champion", "challenger"):
        table.add_column(header)
    for row in rows:
        table.add_row(escape(row["lineage"]), str(len(row["versions"])), *_aliases(row))
    session.out.print(table)


def _aliases(row: dict[str, Any]) -> list[str]:
    return [str(row[alias] or "·") for alias in ("champion", "challenger")]


def _row(registry: Registry, lineage: str, number: int) -> dict[str, Any]:
    from pipelines.manifest import read_manifest

    manifest = read_manifest(registry.path(lineage, number))
    aliases = registry.aliases(lineage)
    named = {"champion": aliases.champion, "challenger": aliases.challenger}
    return {
        "version": number,
        "created": datetime.fromtimestamp(manifest.created, UTC).isoformat(timespec="seconds"),
        "parent": manifest.parent,
        "tasks": manifest.task_names,
        "methods": [method["type"] for method in manifest.methods],
        "average_accuracy": manifest.metrics.get("average_accuracy"),
        "forgetting": manifest.metrics.get("forgetting"),
        "aliases": [alias for alias, held in named.items() if held == number],
    }


def _cells(row: dict[str, Any]) -> list[str]:
    def percent(value: float | None) -> str:
        return "·" if value is None else f"{100 * value:.1f} %"

    return [
        str(row["version"]),
        datetime.fromisoformat(row["created"]).astimezone().strftime("%Y-%m-%d %H:%M"),
        "base" if row["parent"] is None else str(row["parent"]),
        escape(", ".join(row["tasks"])),
        percent(row["average_accuracy"]),
        percent(row["forgetting"]),
        ", ".join(row["aliases"]),
    ]
