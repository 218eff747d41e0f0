# pyright: reportUnknownMemberType=false
"""The verbs that explain: `methods` and `schema`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from ratchet.pipelines.errors import NotFoundError
from ratchet.service.cli.session import Session

if TYPE_CHECKING:
    from ratchet.service.terminal.method_facts import MethodFacts, PresetFacts


def methods(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="A method or preset, for all of it.")] = None,
) -> None:
    """List the methods and presets, or explain one."""
    from ratchet.service.terminal.method_facts import all_methods, all_presets

    known, ready = all_methods(), all_presets()
    if name is None:
        _list_all(session, known, ready)
    elif name in known:
        _explain_method(session, known[name])
        if name in ready and not session.as_json:
            session.out.print(f"\nThere is also a preset [bold]{escape(name)}[/]:")
            _explain_preset(session, ready[name])
    elif name in ready:
        _explain_preset(session, ready[name])
    else:
        names = sorted({*known, *ready})
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"There are: {', '.join(names)}"
        raise NotFoundError(f"no method or preset {name!r}. {hint}")


def schema(
    session: Session,
    example: Annotated[
        bool, typer.Option("--example", help="A spec with comments to start from, in YAML.")
    ] = False,
) -> None:
    """Print the JSON schema of a spec, for editors; or an example to start from."""
    from ratchet.pipelines.spec.schema import example_spec, spec_schema

    if not example:
        session.emit(spec_schema())
    elif session.as_json:
        session.emit({"example": example_spec()})
    else:
        session.out.file.write(example_spec())


def _list_all(
    session: Session, known: Mapping[str, MethodFacts], ready: Mapping[str, PresetFacts]
) -> None:
    if session.as_json:
        found = {"methods": known.values(), "presets": ready.values()}
        session.emit({name: [asdict(facts) for facts in own] for name, own in found.items()})
        return
    for family in dict.fromkeys(facts.family for facts in known.values()):
        _list_family(session, family, [own for own in known.values() if own.family == family])
    presets = Table(title="Presets", title_justify="left", title_style="bold", show_edge=False)
    presets.add_column("preset", no_wrap=True)
    presets.add_column("stack and when to choose it")
    for facts in ready.values():
        when = facts.when.removeprefix("Choose it ")
        presets.add_row(facts.name, f"{_stack(facts)}\n[dim]{escape(when)}[/]")
    session.out.print(presets)
    session.out.print(
        "\nMore of one: ratchet methods NAME. A spec to start from: ratchet schema --example"
    )


def _list_family(session: Session, family: str, methods: Sequence[MethodFacts]) -> None:
    """A table of one family: what each method does, and below it what one decides by."""
    title = f"Methods: {family}"
    table = Table(title=title, title_justify="left", title_style="bold", show_edge=False)
    table.add_column("type", no_wrap=True)
    table.add_column("what it does, protects, costs and needs")
    for facts in methods:
        below = "\n".join(_said(facts))
        table.add_row(facts.type, f"{escape(facts.summary)}\n[dim]{below}[/]")
    session.out.print(table)
    session.out.print()


def _said(facts: MethodFacts) -> list[str]:
    """What one decides by, a line each."""
    said = {"protects": facts.protects, "cost": facts.cost, "needs": facts.needs}
    return [f"{word}: {escape(text)}" for word, text in said.items() if text]


def _stack(facts: PresetFacts) -> str:
    return " + ".join(facts.stack) or ("all at once" if facts.spec.get("joint") else "nothing")


def _explain_method(session: Session, facts: MethodFacts) -> None:
    if session.as_json:
        session.emit(asdict(facts))
        return
    session.out.print(f"[bold]{facts.type}[/] ({facts.family}) · {escape(facts.source)}\n")
    for line in _said(facts):
        session.out.print(line)
    session.out.print()
    session.out.print(escape(facts.description) + "\n")
    table = Table(show_edge=False)
    for header in ("field", "default", "allowed"):
        table.add_column(header, no_wrap=header == "field")
    for field, own in facts.fields.items():
        table.add_row(field, escape(str(own.default)), escape(own.allowed))
    session.out.print(table)


def _explain_preset(session: Session, facts: PresetFacts) -> None:
    if session.as_json:
        session.emit(asdict(facts))
        return
    import yaml

    session.out.print(f"[bold]{facts.name}[/] (preset) · {escape(facts.when)}\n")
    session.out.print(escape(yaml.safe_dump(facts.spec, sort_keys=False)))
