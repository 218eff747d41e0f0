"""The command `ratchet`. Nothing heavy is imported before a verb needs it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated

import typer

from ratchet import DISTRIBUTION
from ratchet.service.cli import (
    auditing,
    catalogue,
    comparing,
    health,
    jobs,
    keys,
    serving,
    submitting,
    tracked,
    tuning,
    up,
    updates,
    versions,
    watching,
)
from ratchet.service.cli.session import verb

PROCESS_SETTINGS = {
    # An OpenMP pool that spins between regions was measured 8 times slower on a busy machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    "TOKENIZERS_PARALLELISM": "false",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
}
VERBS: tuple[tuple[str, Callable[..., None]], ...] = (
    ("Teach", updates.run),
    ("Teach", updates.plan),
    ("Teach", tuning.tune),
    ("Teach", comparing.compare),
    ("Look", versions.versions),
    ("Look", versions.evaluate),
    ("Serve", serving.predict),
    ("Serve", serving.serve),
    ("Serve", versions.promote),
    ("Serve", versions.rollback),
    ("Use the service", up.up),
    ("Use the service", submitting.submit),
    ("Use the service", submitting.wait),
    ("Use the service", jobs.list),
    ("Use the service", jobs.get),
    ("Use the service", watching.events),
    ("Use the service", watching.logs),
    ("Use the service", jobs.cancel),
    ("Use the service", jobs.pause),
    ("Use the service", jobs.resume),
    ("Use the service", auditing.audit),
    ("Learn more", catalogue.methods),
    ("Learn more", catalogue.schema),
    ("Learn more", health.doctor),
    ("Learn more", tracked.track),
)
HOMELESS = (catalogue.methods, catalogue.schema, health.doctor)
"""Verbs that say what they have to say without a home; `doctor` says what is wrong with it."""


def build_app() -> typer.Typer:
    """The command with all its verbs."""
    app = typer.Typer(
        name="ratchet",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        help="Teach one model task after task, prove that nothing was lost, serve every task.",
        epilog="Exit codes: 0 done, 1 failed, 2 usage or a bad spec, 3 not found, "
        "4 the gate refused, 5 cancelled, 6 not finished in time.",
    )
    app.callback()(_root)
    for panel, function in VERBS:
        app.command(rich_help_panel=panel)(verb(function, function not in HOMELESS))
    app.add_typer(keys.keys_app(), name="keys", rich_help_panel="Use the service")
    return app


def main() -> None:
    """The console entry point."""
    for name, value in PROCESS_SETTINGS.items():
        os.environ.setdefault(name, value)
    build_app()()


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"ratchet {version(DISTRIBUTION)}")
        raise typer.Exit


def _root(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Say the version."),
    ] = False,
) -> None:
    pass
