"""How a verb finds the service, and whether a home is one's own or a service's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from ratchet.pipelines.errors import BusyError
from ratchet.service.cli.session import Session

if TYPE_CHECKING:
    from ratchet.service.client import Client

UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="RATCHET_URL",
        help="The service; by default the one that `ratchet up` runs on the home. Its key is read "
        "from RATCHET_API_KEY, or from the home.",
        show_default=False,
    ),
]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of the job.")]


def client_of(session: Session, url: str | None) -> Client:
    """A client of the service that is meant."""
    from ratchet.service.client import Client

    return Client(url, home=session.home)


def is_run_by_service(session: Session, url: str | None) -> bool:
    """Whether a service is to be asked: one is named, or one runs on the home."""
    if url is not None:
        return True
    path = session.home / "service" / "up.json"
    if not path.is_file():
        return False
    from ratchet.service.up.record import read_record

    record = read_record(path)
    return record is not None and record.is_alive


def refuse_home_of_service(session: Session, instead: str) -> None:
    """Keep hands off a home whose truth is in a service's database.

    Args:
        session: Whose home it is.
        instead: What to do instead, as a command.

    Raises:
        BusyError: The home is a service's, whether or not that runs now.
    """
    signs = [session.home / "ratchet.db", session.home / "service", session.home / "jobs"]
    if any(sign.exists() for sign in signs):
        raise BusyError(
            f"--home: {session.home} belongs to a service, whose database decides what is champion "
            f"there; this would be undone. Use `{instead}` (`ratchet up` starts a service that "
            "does not run), or another --home"
        )
