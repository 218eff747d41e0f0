"""What every verb shares: where state lives, how to answer, how to fail."""

from __future__ import annotations

import inspect
import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from ratchet.pipelines.errors import Problem, RatchetError, SpecError
from ratchet.pipelines.registry.s3.attachment import attach_object_store
from ratchet.service.cli.failures import CANCELLED, as_json_error, exit_code

DEFAULT_HOME = Path(".ratchet")
PIPE_WIDTH = 120
CANCELLED_WORDS = "Cancelled. An update goes on from the last checkpoint when it is run again."

HomeOption = Annotated[
    Path, typer.Option("--home", envvar="RATCHET_HOME", help="The folder that keeps all state.")
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking-uri",
        envvar=["RATCHET_TRACKING_URI", "MLFLOW_TRACKING_URI"],
        help="The MLflow store or server; by default a database below the home.",
        show_default=False,
    ),
]
StoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="RATCHET_STORE",
        help="s3://BUCKET/PREFIX that keeps the state; the home is then a copy of it.",
        show_default=False,
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Answer in JSON on stdout; messages go to stderr.")
]
DebugOption = Annotated[
    bool, typer.Option("--debug", help="Show where in the code an error arose.")
]


@dataclass(frozen=True)
class Session:
    """One call of the command line.

    Attributes:
        home: The folder that keeps all state.
        tracking_uri: The MLflow store, or None for the one below the home.
        as_json: Whether stdout is for machines.
        debug: Whether errors show where they arose.
        out: Standard output, for what was asked for.
        err: Standard error, for everything else.
    """

    home: Path
    tracking_uri: str | None
    as_json: bool
    debug: bool
    out: Console
    err: Console

    @staticmethod
    def start(home: Path, tracking_uri: str | None, as_json: bool, debug: bool) -> Session:
        """A session on this process's own streams."""
        return Session(
            home.resolve(),
            tracking_uri or None,
            as_json,
            debug,
            _console(stderr=False),
            _console(stderr=True),
        )

    @property
    def messages(self) -> Console:
        """Where words for people go: stderr where stdout is for machines."""
        return self.err if self.as_json else self.out

    def emit(self, data: object) -> None:
        """Write plain values to stdout as one line of JSON."""
        sys.stdout.write(json.dumps(data, ensure_ascii=False, allow_nan=False) + "\n")
        sys.stdout.flush()

    def fail(self, error: RatchetError) -> NoReturn:
        """Say what is wrong and end with the exit code that stands for it."""
        if self.debug:
            self.err.print(escape(traceback.format_exc()), soft_wrap=True)
        if self.as_json:
            sys.stderr.write(json.dumps(as_json_error(error), ensure_ascii=False) + "\n")
        else:
            self.err.print(f"[bold red]Error:[/] {escape(str(error))}", soft_wrap=True)
        raise typer.Exit(exit_code(error))


def checked_folder(path: Path, option: str) -> Path:
    """A folder that is there, or can be made as far as files are not in its way.

    Raises:
        SpecError: It is a file, or below one.
    """
    nearest = next(place for place in (path, *path.parents) if place.exists())
    if not nearest.is_dir():
        message = "a folder is needed, and this is a file"
        raise SpecError([Problem(option, message, str(nearest), "Name another folder")])
    return path


def verb(function: Callable[..., None], needs_home: bool = True) -> Callable[..., None]:
    """A command from a function of a session: with the options and the endings of every verb.

    Args:
        function: Takes a `Session`, and after it what the verb itself needs.
        needs_home: Whether it cannot do without a home that is a folder or can become one.
    """
    own = list(inspect.signature(function, eval_str=True).parameters.values())[1:]

    def command(
        home: Path,
        tracking_uri: str | None,
        store: str | None,
        as_json: bool,
        debug: bool,
        **values: Any,
    ) -> None:
        session = Session.start(home, tracking_uri, as_json, debug)
        try:
            if needs_home:
                checked_folder(session.home, "--home")
                if store:
                    attach_object_store(session.home, store)
            function(session, **values)
        except RatchetError as error:
            session.fail(error)
        except BrokenPipeError:
            raise  # the reader of stdout is gone: nobody is left to be told
        except OSError as error:  # a disk that is full, a folder that may not be written
            session.fail(RatchetError(str(error)))
        except KeyboardInterrupt:
            session.err.print(CANCELLED_WORDS)
            raise typer.Exit(CANCELLED) from None

    command.__name__ = function.__name__
    command.__doc__ = function.__doc__
    command.__annotations__ = {}
    command.__signature__ = inspect.Signature([*own, *_SHARED])  # type: ignore[attr-defined]
    return command


def _option(name: str, annotation: object, default: object) -> inspect.Parameter:
    kind = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, kind, default=default, annotation=annotation)


_SHARED = (
    _option("home", HomeOption, DEFAULT_HOME),
    _option("tracking_uri", TrackingOption, None),
    _option("store", StoreOption, None),
    _option("as_json", JsonOption, False),
    _option("debug", DebugOption, False),
)


def _console(stderr: bool) -> Console:
    """A console that does not fold lines at 80 columns where nobody looks at a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(stderr=stderr, highlight=False, width=width)
