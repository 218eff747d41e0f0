"""The verb `tune`: the trade-off between plasticity and stability, searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from ratchet.service.cli.failures import FAILED, REFUSED
from ratchet.service.cli.service_access import refuse_home_of_service
from ratchet.service.cli.session import Session
from ratchet.service.cli.updates import (
    AddressOption,
    LineageOption,
    SetOption,
    SpecArgument,
    changed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ratchet.pipelines.files.json_value import Json
    from ratchet.pipelines.spec.update_spec import UpdateSpec
    from ratchet.pipelines.tuning.search.study_run import Request
    from ratchet.pipelines.tuning.study import Study
    from ratchet.pipelines.update.result import UpdateResult


def tune(
    session: Session,
    spec: SpecArgument,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Trials at most, over tune.num_trials.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Only go on with a study that was begun before.")
    ] = False,
    write: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the chosen settings as a spec that `run` takes."),
    ] = None,
    promote: Annotated[
        bool, typer.Option("--promote", help="Run the chosen settings through the gate.")
    ] = False,
    address: AddressOption = None,
    changes: SetOption = None,
    lineage: LineageOption = None,
) -> None:
    """Search the settings of SPEC named under `tune`, and show the front of what they trade.

    Nothing is registered or promoted unless asked. Interrupted, the same command goes on; a trial
    that has ended is not repeated.
    """
    if promote:
        refuse_home_of_service(session, f"ratchet submit {spec} --study")
    from ratchet.pipelines.files.yaml_file import read_yaml
    from ratchet.pipelines.spec.changes import parse_changes
    from ratchet.pipelines.tuning.search.space import RawSpec

    own = changed(changes, lineage)
    own += [] if trials is None else [f"tune.num_trials={trials}"]
    source = RawSpec(read_yaml(spec), spec.resolve().parent, tuple(parse_changes(own)))
    _ = source.spec  # what is wrong with it is said before anything heavy is loaded

    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.registry.home import Home
    from ratchet.pipelines.tuning.search.study_run import Request
    from ratchet.pipelines.tuning.tuning import run_study

    quiet_libraries()
    home = Home.at(session.home, session.tracking_uri)
    request = Request(source, str(spec), home, address, resume, tuple(own))
    study, folder = run_study(request, lambda line: _say(session, line))
    if study.chosen is None:
        _emit(session, study, folder, None)
        raise typer.Exit(FAILED)
    settings = study.chosen.trial.settings
    if write is not None:
        _write_spec(write, source.without_tune(settings), study)
        _say(session, f"written: {write}")
    result = _promoted(session, request, settings, folder) if promote else None
    _emit(session, study, folder, result)
    if result is not None and not result.promoted:
        raise typer.Exit(REFUSED)


def _write_spec(path: Path, best: UpdateSpec, study: Study) -> None:
    """A spec with its paths made absolute, and where it comes from in a comment."""
    from ratchet.pipelines.files.atomic_file import write_atomically
    from ratchet.pipelines.spec.update_spec import spec_as_yaml

    chosen = study.chosen
    assert chosen is not None, "the caller has looked"
    comment = f"# Trial {chosen.trial.number} of study {study.name}: {chosen.reason}.\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, comment + spec_as_yaml(best))


def _promoted(
    session: Session, request: Request, settings: Mapping[str, Json], folder: Path
) -> UpdateResult:
    from ratchet.pipelines.tuning.promotion import promote
    from ratchet.service.terminal.progress_lines import ProgressLines

    with ProgressLines(session.err) as lines:
        return promote(request.source, settings, folder, request.home, lines, request.address)


def _emit(session: Session, study: Study, folder: Path, result: UpdateResult | None) -> None:
    if session.as_json:
        update = None if result is None else result.to_json()
        session.emit(study.as_dict() | {"page": str(folder / "study.html"), "update": update})
        return
    from ratchet.service.terminal.study import show_study

    show_study(study, session.out)
    session.out.print(f"The page: {escape(str(folder / 'study.html'))}", soft_wrap=True)
    if result is not None:
        from ratchet.service.terminal.result import show_result

        show_result(result.to_json(), session.out)


def _say(session: Session, line: str) -> None:
    session.err.print(escape(line), soft_wrap=True)
