"""The verb `track`: what MLflow has not got yet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ratchet.service.cli.session import Session


def track(
    session: Session,
    send: Annotated[
        Path, typer.Option("--send", metavar="RUN", help="The folder of the run to send.")
    ],
) -> None:
    """Send to MLflow what an update tracked while MLflow was away."""
    from ratchet.pipelines.tracking.mlflow_client import default_tracking_uri
    from ratchet.pipelines.tracking.tracker import send_outbox

    uri = session.tracking_uri or default_tracking_uri(session.home)
    number = send_outbox(send, uri)
    if session.as_json:
        session.emit({"run": str(send.resolve()), "tracking_uri": uri, "num_sent": number})
    else:
        session.out.print(f"Sent {number} events to {escape(uri)}.", soft_wrap=True)
