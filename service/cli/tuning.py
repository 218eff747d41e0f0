"""The verb `tune`: the trade-off between plasticity and stability, searched."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from service.cli.failures import FAILED, REFUSED
from service.cli.service_access import refuse_home_of_service
from service.cli.session import Session
from service.cli.updates import AddressOption, LineageOption, SetOption, SpecArgument, changed

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipelines.config import UpdateSpec
    from pipelines.tuning.study import Study
    from pipelines.tuning.study_run import Request


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
    from pipelines.spec_changes import parse_changes
    from pipelines.tuning.space import RawSpec
    from pipelines.yaml_file import read_yaml

    own = changed(changes, lineage)
    own += [] if trials is None else [f"tune.num_trials={trials}"]
    source = RawSpec(read_yaml(spec), spec.resolve().parent, tuple(parse_changes(own)))
    _ = source.spec  # what is wrong with it is said before anything heavy is loaded

    from pipelines.quiet import quiet_libraries
    from pipelines.run import Home
    from pipelines.tuning.study_run import Request
    from pipelines.tuning.tuning import run_study

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
    if result is not None and not result["promoted"]:
        raise typer.Exit(REFUSED)


def _write_spec(path: Path, best: UpdateSpec, study: Study) -> None:
    """A spec with its paths made absolute, and where it comes from in a comment."""
    from pipelines.atomic_file import write_atomically
    from pipelines.config import spec_as_yaml

    chosen = study.chosen
    assert chosen is not None, "the caller has looked"
    comment = f"# Trial {chosen.trial.number} of study {study.name}: {chosen.reason}.\n"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, comment + spec_as_yaml(best))


def _promoted(
    session: Session, request: Request, settings: Mapping[str, Any], folder: Path
) -> dict[str, Any]:
    from pipelines.tuning.promotion import promote
    from service.console_lines import ProgressLines

    with ProgressLines(session.err) as lines:
        return promote(request.source, settings, folder, request.home, lines, request.address)


def _emit(session: Session, study: Study, folder: Path, result: dict[str, Any] | None) -> None:
    if session.as_json:
        session.emit(study.as_dict() | {"page": str(folder / "study.html"), "update": result})
        return
    from service.study_view import show_study

    show_study(study, session.out)
    session.out.print(f"The page: {escape(str(folder / 'study.html'))}", soft_wrap=True)
    if result is not None:
        from service.result_view import show_result

        show_result(result, session.out)


def _say(session: Session, line: str) -> None:
    session.err.print(escape(line), soft_wrap=True)
