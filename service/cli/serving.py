"""The verbs that answer requests: `predict` and `serve`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.pages.words import NONE, percent
from ratchet.service.cli.session import Session
from ratchet.service.serving.routing import AUTO

if TYPE_CHECKING:
    from ratchet.pipelines.answering.answer import Answer
    from ratchet.pipelines.answering.continuation import Continuation
    from ratchet.pipelines.files.json_value import JsonObject


def predict(
    session: Session,
    reference: Annotated[str, typer.Argument(metavar="LINEAGE[@VERSION]")],
    texts: Annotated[list[str], typer.Argument(help="What to answer; - reads lines from stdin.")],
    task: Annotated[
        str, typer.Option("--task", help="The task of every text; auto infers each one's.")
    ] = "auto",
) -> None:
    """Classify texts here, or continue them with a language model, without a server."""
    wanted = [line for text in texts for line in _lines(text)]
    from ratchet.pipelines.answering.answer import Answer
    from ratchet.pipelines.answering.continuation import Continuation
    from ratchet.pipelines.answering.predict import predict as classify
    from ratchet.pipelines.quiet import quiet_libraries

    quiet_libraries()
    found = classify(session.home, reference, wanted, None if task == AUTO else task)
    if session.as_json:
        session.emit([_plain(place, answer) for place, answer in enumerate(found)])
        return
    completions = [answer for answer in found if isinstance(answer, Continuation)]
    if completions:
        session.out.print(_completions(wanted, completions))
        return
    table = Table(show_edge=False)
    for header in ("text", "label", "probability", "task", "score"):
        table.add_column(header, justify="right" if header in ("probability", "score") else "left")
    answers = [answer for answer in found if isinstance(answer, Answer)]
    for text, answer in zip(wanted, answers, strict=True):
        table.add_row(escape(text), *_cells(answer))
    session.out.print(table)


def serve(
    session: Session,
    lineages: Annotated[
        list[str] | None, typer.Argument(help="The lineages whose champions answer.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every lineage, each from its first champion on.")
    ] = False,
    host: Annotated[str, typer.Option("--host", help="The address to listen at.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="The port to listen at.")
    ] = 8000,
    replicas: Annotated[
        int, typer.Option("--replicas", min=1, help="Copies of the model that share the load.")
    ] = 1,
) -> None:
    """Serve the champions of LINEAGES over HTTP until Ctrl-C; a promotion goes live by itself."""
    if bool(lineages) == every:
        raise SpecError([Problem("LINEAGES", "name lineages, or give --all, and not both")])
    from ratchet.pipelines.answering.served_version import refuse_language_model
    from ratchet.pipelines.quiet import quiet_libraries
    from ratchet.pipelines.registry.manifest import read_manifest
    from ratchet.pipelines.registry.registry import Registry

    registry = Registry(session.home)
    for lineage in lineages or ():
        refuse_language_model(read_manifest(registry.resolve(lineage)))  # before Ray is started
    quiet_libraries()
    from ratchet.service.serving.graph import serve_lineages

    session.err.print(f"Starting at http://{escape(host)}:{port} … Ctrl-C ends it.")
    try:
        serve_lineages(session.home, lineages or None, host, port, replicas)
    except KeyboardInterrupt:
        session.err.print("Stopped.")  # the way to end it, so no failure


def _completions(texts: list[str], answers: Sequence[Continuation]) -> Table:
    """What a language model added to each text."""
    table = Table(show_edge=False)
    for header in ("text", "completion", "task"):
        table.add_column(header)
    for text, answer in zip(texts, answers, strict=True):
        table.add_row(escape(text), escape(answer.completion), escape(answer.task or NONE))
    return table


def _plain(place: int, answer: Answer | Continuation) -> JsonObject:
    """An answer as `--json` prints it."""
    from ratchet.pipelines.answering.continuation import Continuation
    from ratchet.service.serving.classification import classification

    if isinstance(answer, Continuation):
        return {"index": place, **asdict(answer)}
    return classification(place, answer).model_dump(mode="json")


def _lines(text: str) -> list[str]:
    return [line.rstrip("\n") for line in sys.stdin] if text == "-" else [text]


def _cells(answer: Answer) -> list[str]:
    score = f"{answer.score:.2f}"
    if answer.label is None:
        return ["[dim]none: out of scope[/]", NONE, escape(answer.task or NONE), score]
    share = percent(max(answer.probs, default=None))
    return [escape(answer.label), share, escape(f"{answer.task}@{answer.version}"), score]
