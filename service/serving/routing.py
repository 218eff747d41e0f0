"""What the `model` of a request stands for. Pure: names in, a target or an error out."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ratchet.service.errors import InvalidRequestError, UnknownModelError

AUTO = "auto"


@dataclass(frozen=True)
class LineageView:
    """What of a lineage can be named.

    Attributes:
        name: The lineage.
        serving: The version that answers where none is named.
        challenger: The version that waits, or None.
        tasks: Names of the tasks of every version that exists, by version.
    """

    name: str
    serving: int
    challenger: int | None
    tasks: Mapping[int, Sequence[str]]


@dataclass(frozen=True)
class Target:
    """What shall answer a request.

    Attributes:
        lineage: The lineage.
        version: The version, or None for the one that answers when the request's turn comes.
        task: The task, or None where it is to be inferred.
    """

    lineage: str
    version: int | None
    task: str | None


def resolve(model: str, lineages: Sequence[LineageView]) -> Target:
    """The target of a request.

    `auto` infers the task, and needs a lineage where several are served. A task's name is enough
    where it is unique; `lineage/task` always is. `@3` or `@challenger` behind any of them names a
    version. Where a task and a lineage share a name, the task is meant, and `lineage/auto` is the
    lineage.

    Args:
        model: What the request names.
        lineages: What is served.

    Raises:
        UnknownModelError: Nothing is called that; the message offers the nearest names.
        InvalidRequestError: Several lineages could be meant.
    """
    name, _, wanted = model.partition("@")
    owner, slash, task = name.rpartition("/")
    if slash:
        chosen = [view for view in lineages if view.name == owner and task]
        task = "" if task == AUTO else task
    elif name == AUTO:
        chosen, task = list(lineages), ""
    else:
        chosen = [view for view in lineages if _knows(view, name, wanted)]
        if not chosen:
            chosen, task = [view for view in lineages if view.name == name], ""
    if not chosen:
        raise _unknown(model, name, lineages)
    if len(chosen) > 1:
        raise _ambiguous(model, name, chosen)
    return _target(model, chosen[0], wanted, task or None, lineages)


def _knows(view: LineageView, task: str, wanted: str) -> bool:
    """Whether a name can be a task of the lineage: of any version where one is wanted."""
    return (
        any(task in names for names in view.tasks.values())
        if wanted
        else (task in view.tasks[view.serving])
    )


def _target(
    model: str,
    view: LineageView,
    wanted: str,
    task: str | None,
    lineages: Sequence[LineageView],
) -> Target:
    number = _number(model, view, wanted)
    known = view.tasks[view.serving if number is None else number]
    if task is not None and task not in known:
        if not wanted:
            raise _unknown(model, task, lineages)
        raise UnknownModelError(
            f"model: {model!r} names the task {task!r}, and version {number} of {view.name} has "
            f"only {', '.join(known)}; name another version",
            "model",
        )
    return Target(view.name, number, task)


def _number(model: str, view: LineageView, wanted: str) -> int | None:
    if wanted in ("", "champion"):
        return None
    number = view.challenger if wanted == "challenger" else None
    if wanted.isascii() and wanted.isdecimal():
        number = int(wanted)
    if number not in view.tasks:
        raise UnknownModelError(
            f"model: {model!r} names the version {wanted!r}, which {view.name} does not have; "
            f"allowed: champion, challenger, {_listed(sorted(view.tasks))}",
            "model",
        )
    return number


def served_names(lineages: Sequence[LineageView]) -> list[str]:
    """Everything that can stand in `model` without a version, each once: auto, lineages, tasks."""
    names = [AUTO] if len(lineages) == 1 else []
    names += [view.name for view in lineages]
    names += [task for view in lineages for task in view.tasks[view.serving]]
    return list(dict.fromkeys(names))


def _unknown(model: str, name: str, lineages: Sequence[LineageView]) -> UnknownModelError:
    names = served_names(lineages)
    near = difflib.get_close_matches(name.rpartition("/")[2], names, n=3)
    hint = f"did you mean {_listed(near)}?" if near else f"served here: {_listed(names)}"
    return UnknownModelError(f"model: {model!r} is not served here; {hint}", "model")


def _ambiguous(model: str, name: str, chosen: Sequence[LineageView]) -> InvalidRequestError:
    full = [f"{view.name}/{name}" for view in chosen]
    return InvalidRequestError(
        f"model: {model!r} could be any of {len(chosen)} lineages; name one of {_listed(full)}",
        "model",
    )


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(name) for name in names)
