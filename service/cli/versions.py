"""The verbs about versions: `versions`, `promote`, `rollback`, `evaluate`."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.service.cli.service_access import UrlOption, is_run_by_service, refuse_home_of_service
from ratchet.service.cli.session import Session
from ratchet.service.cli.version_tables import LineageRow, VersionRow, say_lineages, say_versions

if TYPE_CHECKING:
    from ratchet.pipelines.registry.registry import Registry

LineageArgument = Annotated[str, typer.Argument(help="Name of the lineage.")]


def versions(
    session: Session,
    lineage: Annotated[str | None, typer.Argument(help="Name of the lineage.")] = None,
    url: UrlOption = None,
) -> None:
    """List the versions of LINEAGE, or the lineages that exist."""
    if is_run_by_service(session, url):
        from ratchet.service.cli import service_versions as served_versions

        served_versions.versions(session, lineage, url)
        return
    registry = registry_of(session)
    if lineage is None:
        _list_lineages(session, registry)
        return
    if lineage not in registry.lineages():
        registry.resolve(lineage)  # names the nearest that exist
    rows = [_row(registry, lineage, number) for number in registry.versions(lineage)]
    say_versions(session, lineage, rows)


def promote(
    session: Session,
    reference: Annotated[
        str, typer.Argument(metavar="LINEAGE[@VERSION]", help="By default the challenger.")
    ],
    accept_loss: Annotated[
        list[str] | None,
        typer.Option(
            "--accept-loss",
            metavar="TASK=SHARE",
            help="Accept that a task lost up to this share of its rows (0.08 is 8 points): its "
            "anchor moves to this version. May be given for several tasks; needs --reason.",
        ),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why, for the record.")] = "",
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Do not load the version first; it is noted.")
    ] = False,
    url: UrlOption = None,
) -> None:
    """Make a version the champion, whatever the gate said of it.

    It is loaded first as serving loads it, and refused if it does not load. What a task lost is
    still held against the next version, unless it is accepted here.
    """
    accepted = _accepted(accept_loss or [], reason)
    if is_run_by_service(session, url):
        if accepted or reason or unchecked:
            raise SpecError(
                [
                    Problem(
                        "--accept-loss, --reason, --unchecked",
                        "are for a home that no service runs",
                        hint="Stop the service and promote in its home, or leave them out",
                    )
                ]
            )
        from ratchet.service.cli import service_versions as served_versions

        _say_champion(session, *served_versions.promote(session, reference, url))
        return
    refuse_home_of_service(session, f"ratchet promote {reference}")
    registry = registry_of(session)
    lineage, _, wanted = reference.partition("@")
    number = int(registry.resolve(f"{lineage}@{wanted or 'challenger'}").name)
    before = registry.champion(lineage)
    _check(registry.fetched(lineage, number), accepted, unchecked=unchecked)
    registry.promote_by_hand(lineage, number, accepted, reason, checked=not unchecked)
    _say_champion(session, lineage, number, before)


def _accepted(given: list[str], reason: str) -> dict[str, float]:
    """The losses of `--accept-loss`, by task.

    Raises:
        SpecError: One that is no share of a task, or no reason for them.
    """
    accepted: dict[str, float] = {}
    problems: list[Problem] = []
    for text in given:
        task, _, share = text.rpartition("=")
        try:
            accepted[task] = float(share)
        except ValueError:
            accepted[task] = -1.0
        if not task or not 0 < accepted[task] <= 1:
            hint = "For example travel=0.08"
            problems.append(Problem("--accept-loss", "should be TASK=SHARE, 0 to 1", text, hint))
    if given and not reason.strip():
        hint = "Say with --reason why the loss is accepted"
        problems.append(Problem("--reason", "is needed with --accept-loss", hint=hint))
    if problems:
        raise SpecError(problems)
    return accepted


def _check(folder: Path, accepted: dict[str, float], *, unchecked: bool) -> None:
    """Check what a person is about to answer for; see `pipelines.update.acceptance`."""
    if unchecked and not accepted:
        return
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.update.acceptance import check_accepted, check_loads

    quiet_libraries()
    if accepted:
        check_accepted(folder, accepted)
    if not unchecked:
        check_loads(folder)


def rollback(session: Session, lineage: LineageArgument, url: UrlOption = None) -> None:
    """Make the champion before this one the champion again."""
    if is_run_by_service(session, url):
        from ratchet.service.cli import service_versions as served_versions

        _say_champion(session, *served_versions.rollback(session, lineage, url))
        return
    refuse_home_of_service(session, f"ratchet rollback {lineage}")
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
    from ratchet.pipelines.spec.reading import load_spec

    folder = registry_of(session).resolve(reference)
    data = load_spec(spec)
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.update.evaluate import evaluate_version
    from ratchet.service.terminal.result import show_scores

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
    from ratchet.pipelines.registry.registry import Registry
    from ratchet.pipelines.tracking.mlflow_client import default_tracking_uri

    uri = session.tracking_uri or default_tracking_uri(session.home)
    return Registry(session.home, uri)


def _say_champion(session: Session, lineage: str, number: int, before: int | None) -> None:
    if session.as_json:
        session.emit({"lineage": lineage, "champion": number, "previous": before})
        return
    was = "there was none before" if before is None else f"it was version {before}"
    session.out.print(f"Version {number} of {escape(lineage)} is champion ({was}).")


def _list_lineages(session: Session, registry: Registry) -> None:
    rows: list[LineageRow] = []
    for name in registry.lineages():
        aliases, numbers = registry.aliases(name), registry.versions(name)
        rows.append(LineageRow(name, numbers, aliases.champion, aliases.challenger))
    say_lineages(session, rows, f"below {session.home}", "ratchet run")


def _row(registry: Registry, lineage: str, number: int) -> VersionRow:
    from ratchet.pipelines.registry.manifest import read_manifest

    manifest = read_manifest(registry.path(lineage, number))
    aliases = registry.aliases(lineage)
    named = {"champion": aliases.champion, "challenger": aliases.challenger}
    return VersionRow(
        version=number,
        created=datetime.fromtimestamp(manifest.created, UTC).isoformat(timespec="seconds"),
        parent=manifest.parent,
        tasks=manifest.task_names,
        methods=[str(method["type"]) for method in manifest.methods],
        average_accuracy=manifest.metrics.get("average_accuracy"),
        forgetting=manifest.metrics.get("forgetting"),
        aliases=[alias for alias, held in named.items() if held == number],
    )
