"""The verb `doctor`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.markup import escape

from ratchet.service.cli.failures import FAILED
from ratchet.service.cli.session import Session

if TYPE_CHECKING:
    from ratchet.service.doctor.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(session: Session) -> None:
    """Look at this machine: libraries, processor, memory, disk, stores, models, ports."""
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.tracking.mlflow_client import default_tracking_uri
    from ratchet.service.doctor.machine import examine

    quiet_libraries()
    findings: list[Finding] = []
    for finding in examine(
        session.home, session.tracking_uri or default_tracking_uri(session.home)
    ):
        findings.append(finding)
        if session.as_json:
            continue
        colour = COLOURS[finding.status]
        line = (
            f"[{colour}]{finding.status:<4}[/] {escape(finding.name):<14} {escape(finding.found)}"
        )
        session.out.print(line, soft_wrap=True)
        if finding.advice:
            session.out.print(f"{'':19} → {escape(finding.advice)}", soft_wrap=True)
    healthy = all(finding.status != "fail" for finding in findings)
    if session.as_json:
        session.emit({"healthy": healthy, "findings": [each.as_dict() for each in findings]})
    if not healthy:
        raise typer.Exit(FAILED)
