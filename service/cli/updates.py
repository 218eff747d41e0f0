"""The verbs that teach: `run` and `plan`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ratchet.service.cli.failures import REFUSED
from ratchet.service.cli.service_access import refuse_home_of_service
from ratchet.service.cli.session import Session

SpecArgument = Annotated[Path, typer.Argument(help="The spec of the update, a YAML file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Change a field of the spec, say `training.seed=1` or `methods.ewc.strength=10`; "
        "may be repeated.",
    ),
]
AddressOption = Annotated[str | None, typer.Option("--address", help="The Ray cluster to run on.")]
LineageOption = Annotated[
    str | None, typer.Option("--lineage", help="Another lineage than the spec's.")
]


def run(
    session: Session,
    spec: SpecArgument,
    address: AddressOption = None,
    changes: SetOption = None,
    lineage: LineageOption = None,
) -> None:
    """Teach a lineage the tasks of SPEC, measure, judge, and register a version.

    Interrupted, the same command goes on from the last checkpoint.
    """
    refuse_home_of_service(session, f"ratchet submit {spec} --wait")
    from ratchet.pipelines.spec.reading import load_spec

    update = load_spec(spec, changed(changes, lineage))
    from ratchet.pipelines.update.ray_session import ray_session

    with ray_session(
        update.scaling, address, preload=("ratchet.pipelines.update.run", "ray.train.torch")
    ):
        from ratchet.pipelines.quiet import quiet_libraries
        from ratchet.pipelines.registry.home import Home
        from ratchet.pipelines.update.run import run_update
        from ratchet.service.terminal.progress_lines import ProgressLines
        from ratchet.service.terminal.result import show_result

        quiet_libraries()
        home = Home.at(session.home, session.tracking_uri)
        with ProgressLines(session.err) as lines:
            result = run_update(update, home, lines, spec.resolve().parent, address)
    if session.as_json:
        session.emit(result.to_json())
    else:
        show_result(result.to_json(), session.out)
    if not result.promoted:
        raise typer.Exit(REFUSED)


def plan(
    session: Session,
    spec: SpecArgument,
    changes: SetOption = None,
    lineage: LineageOption = None,
) -> None:
    """Say what `run SPEC` would do, without doing it: steps, parameters, bytes, time."""
    from ratchet.pipelines.spec.reading import load_spec

    update = load_spec(spec, changed(changes, lineage))
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.registry.registry import Registry
    from ratchet.pipelines.update.describe import describe_update
    from ratchet.service.terminal.plan import show_plan

    quiet_libraries()
    with session.err.status("reading the data, trying a few steps …"):
        planned = describe_update(update, Registry(session.home))
    if session.as_json:
        session.emit(planned)
    else:
        show_plan(planned, session.out)


def changed(changes: list[str] | None, lineage: str | None) -> list[str]:
    """Every change to a spec that the options ask for, as `field=value`."""
    return [*(changes or []), *([] if lineage is None else [f"lineage={lineage}"])]
