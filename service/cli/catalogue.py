"""The verbs that explain: `methods` and `schema`."""

from __future__ import annotations

import difflib
import inspect
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pipelines.errors import NotFoundError
from pipelines.method_config import METHOD_CONFIGS, MethodConfig
from pipelines.presets import preset_advice, preset_names, read_preset
from pipelines.spec_schema import example_spec, spec_schema
from service.cli.session import Session

ALLOWED_WORDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "exclusiveMaximum": "below {}",
}


def methods(
    session: Session,
    name: Annotated[str | None, typer.Argument(help="A method or preset, for all of it.")] = None,
) -> None:
    """List the methods and presets, or explain one."""
    if name is None:
        _list_all(session)
    elif name in METHOD_CONFIGS:
        _explain_method(session, name)
        if name in preset_names() and not session.as_json:
            session.out.print(f"\nThere is also a preset [bold]{escape(name)}[/]:")
            _explain_preset(session, name)
    elif name in preset_names():
        _explain_preset(session, name)
    else:
        names = sorted({*METHOD_CONFIGS, *preset_names()})
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
    if not example:
        session.emit(spec_schema())
    elif session.as_json:
        session.emit({"example": example_spec()})
    else:
        session.out.file.write(example_spec())


def method_facts(name: str) -> dict[str, Any]:
    """What is known of a method, as plain values."""
    config = METHOD_CONFIGS[name]
    return {
        "type": name,
        "family": config.family,
        "summary": config.summary,
        "needs": _needs(config),
        "source": config.source,
        "description": inspect.getdoc(config) or "",
        "fields": _fields(config),
    }


def preset_facts(name: str) -> dict[str, Any]:
    """What is known of a preset, as plain values."""
    return {"name": name, "when": preset_advice(name), "spec": read_preset(name)}


def _needs(config: type[MethodConfig]) -> str:
    if config.stores_examples:
        return "old text kept"
    return "first in the list" if config.owns_structure else "no old text"


def _fields(config: type[MethodConfig]) -> dict[str, dict[str, Any]]:
    raw = config.model_json_schema()["properties"]
    return {
        name: {"default": own.get("default"), "allowed": _allowed(own)}
        for name, own in raw.items()
        if name != "type"
    }


def _allowed(field: dict[str, Any]) -> str:
    """What a field may hold, from its JSON schema."""
    if "anyOf" in field:
        return " or ".join(_allowed(choice) for choice in field["anyOf"])
    if "enum" in field:
        return ", ".join(map(str, field["enum"]))
    if "const" in field:
        return str(field["const"])
    if field.get("type") == "array":
        return f"a list of {_allowed(field.get('items', {}))}"
    kind = {"null": "nothing", "boolean": "true or false"}.get(field["type"], field["type"])
    limits = [words.format(field[key]) for key, words in ALLOWED_WORDS.items() if key in field]
    return f"{kind} {', '.join(limits)}".strip()


def _list_all(session: Session) -> None:
    known = [method_facts(name) for name in METHOD_CONFIGS]
    ready = [preset_facts(name) for name in preset_names()]
    if session.as_json:
        session.emit({"methods": known, "presets": ready})
        return
    table = Table(title="Methods", title_justify="left", title_style="bold", show_edge=False)
    for header in ("type", "family", "what it does", "needs", "source"):
        table.add_column(header, no_wrap=header in ("type", "family"))
    for facts in known:
        keys = ("type", "family", "summary", "needs", "source")
        table.add_row(*(escape(facts[key]) for key in keys))
    session.out.print(table)
    session.out.print()
    presets = Table(title="Presets", title_justify="left", title_style="bold", show_edge=False)
    presets.add_column("preset", no_wrap=True)
    presets.add_column("stack")
    presets.add_column("when")
    for facts in ready:
        presets.add_row(facts["name"], _stack(facts["spec"]), escape(facts["when"]))
    session.out.print(presets)
    session.out.print(
        "\nMore of one: ratchet methods NAME. A spec to start from: ratchet schema --example"
    )


def _stack(spec: dict[str, Any]) -> str:
    types = [method["type"] for method in spec.get("methods", ())]
    return " + ".join(types) or ("all at once" if spec.get("joint") else "nothing")


def _explain_method(session: Session, name: str) -> None:
    facts = method_facts(name)
    if session.as_json:
        session.emit(facts)
        return
    session.out.print(f"[bold]{name}[/] ({facts['family']}) · {escape(facts['source'])}\n")
    session.out.print(escape(facts["description"]) + "\n")
    table = Table(show_edge=False)
    for header in ("field", "default", "allowed"):
        table.add_column(header, no_wrap=header == "field")
    for field, own in facts["fields"].items():
        table.add_row(field, escape(str(own["default"])), escape(own["allowed"]))
    session.out.print(table)


def _explain_preset(session: Session, name: str) -> None:
    facts = preset_facts(name)
    if session.as_json:
        session.emit(facts)
        return
    import yaml

    session.out.print(f"[bold]{name}[/] (preset) · {escape(facts['when'])}\n")
    session.out.print(escape(yaml.safe_dump(facts["spec"], sort_keys=False)))
