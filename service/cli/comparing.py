"""The verb `compare`: methods held against each other over one stream."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from ratchet.service.cli.failures import FAILED
from ratchet.service.cli.session import Session, checked_folder
from ratchet.service.cli.updates import SetOption, SpecArgument


def compare(
    session: Session,
    spec: SpecArgument,
    methods: Annotated[
        str,
        typer.Option(help="Presets or methods, with commas between; or files of stacks (.yaml)."),
    ],
    seeds: Annotated[int, typer.Option(help="How many seeds.")] = 1,
    orders: Annotated[int, typer.Option(help="How many orders of the tasks.")] = 1,
    models: Annotated[
        str, typer.Option(help="Further base models, with commas between.", show_default=False)
    ] = "",
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Runs at a time; by default as many as CPUs.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="Where it goes; by default comparisons/SPEC below the home."),
    ] = None,
    same_training: Annotated[
        bool, typer.Option("--same-training", help="Train all with the spec's settings alone.")
    ] = False,
    keep_versions: Annotated[
        bool, typer.Option("--keep-versions", help="Keep what was learned, not only results.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Try runs again that failed before.")
    ] = False,
    changes: SetOption = None,
) -> None:
    """Run METHODS over the stream of SPEC, each from the base model, into one table and one page.

    Nothing is registered or promoted. Interrupted, the same command goes on; what is done is kept.
    """
    from ratchet.pipelines.compare.comparison import Options, failures
    from ratchet.pipelines.compare.comparison import compare as run_comparison
    from ratchet.pipelines.compare.design import Design

    folder = out or session.home / "comparisons" / spec.stem
    folder = checked_folder(folder.resolve(), "--out")
    design = Design(seeds, orders, tuple(_names(models)), same_training, tuple(changes or ()))
    options = Options(jobs, keep_versions, retry)
    found = run_comparison(
        spec, _names(methods), design, folder, options, lambda line: _say(session, line)
    )
    if session.as_json:
        session.emit(found)
    else:
        _show(session, folder)
    if len(failures(found)) == len(found["runs"]):
        raise typer.Exit(FAILED)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _say(session: Session, line: str) -> None:
    session.err.print(escape(line), soft_wrap=True)


def _show(session: Session, folder: Path) -> None:
    table = (folder / "comparison.md").read_text(encoding="utf-8")
    session.out.file.write(table)
    session.out.print(f"\nThe page: {escape(str(folder / 'comparison.html'))}", soft_wrap=True)
