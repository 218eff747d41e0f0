"""Reading a spec from YAML (or a mapping), with every problem reported at once.

Each problem names the path of the field, its value, what is allowed and the nearest valid name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from pydantic import TypeAdapter, ValidationError

from ratchet.pipelines.errors import Problem, SpecError
from ratchet.pipelines.files.json_value import Json, JsonObject
from ratchet.pipelines.files.patterns import Visits, matches, pattern_fault, split_pattern
from ratchet.pipelines.files.yaml_file import read_yaml
from ratchet.pipelines.spec.auto_fields import search_problems
from ratchet.pipelines.spec.changes import Change, apply_changes, parse_changes
from ratchet.pipelines.spec.methods import (
    METHOD_CONFIGS,
    AnyMethodConfig,
    Kind,
    MethodConfig,
    Scenario,
    Sharding,
    stack_problems,
)
from ratchet.pipelines.spec.presets import preset_names, read_preset
from ratchet.pipelines.spec.problems import is_echo, problem_of, unknown
from ratchet.pipelines.spec.stability_decay import StabilityDecaySpec
from ratchet.pipelines.spec.update_spec import UpdateSpec, absolute_uri

SPLITS = ("train", "validation", "test")
MERGED_SECTIONS = ("training", "gate")
START_HINT = "Start from `ratchet schema --example`"


def load_spec(path: str | Path, changes: Sequence[str] = ()) -> UpdateSpec:
    """Read a spec file; relative paths in it are taken from the file's folder.

    Args:
        path: The YAML file.
        changes: Fields to change, each as `field=value`; see `ratchet.pipelines.spec.changes`.

    Raises:
        SpecError: With every problem found: unreadable file, broken YAML, unknown or wrong fields,
            methods that do not compose, local data files that do not exist.
    """
    path = Path(path)
    raw = read_yaml(path)
    if raw is None:
        raise SpecError([Problem(str(path), "the spec is empty", hint=START_HINT)])
    return parse_spec(raw, path.resolve().parent, parse_changes(changes))


def parse_spec(raw: Any, folder: Path, changes: Sequence[Change] = ()) -> UpdateSpec:
    """Validate a mapping as a spec; see `load_spec`."""
    if not isinstance(raw, Mapping):
        raise SpecError([Problem("", "a spec is a mapping of fields", raw, START_HINT)])
    odd = [key for key in raw if not isinstance(key, str)]
    if odd:
        raise SpecError([Problem(str(key), "a field's name is text", key) for key in odd])
    own = [change for change in changes if not change.reaches_into_methods]
    merged, problems = _with_preset(apply_changes(dict(raw), own))
    merged = apply_changes(merged, [change for change in changes if change not in own])
    spec: UpdateSpec | None = None
    try:
        spec = UpdateSpec.model_validate(merged)
    except ValidationError as error:
        details = error.errors(include_url=False)
        problems += [problem_of(own, merged) for own in details if not is_echo(own, details)]
    problems += _cross_checks(merged)
    problems += _missing_files(merged, folder)
    if problems or spec is None:
        raise SpecError(problems)
    return spec.with_paths_under(folder)


def _with_preset(raw: JsonObject) -> tuple[JsonObject, list[Problem]]:
    """A raw spec with its preset's fields under its own."""
    name = raw.get("preset")
    if not isinstance(name, str):
        return raw, []  # none is given, or the validation says that it is no name
    if name not in preset_names():
        return raw, [unknown("preset", name, preset_names(), "preset")]
    if raw.get("methods"):
        return raw, [
            Problem("methods", "give either `preset` or `methods`, not both", hint="Remove one")
        ]
    preset = read_preset(name)
    merged = {**preset, **{key: value for key, value in raw.items() if key != "methods"}}
    for section in MERGED_SECTIONS:
        given, default = raw.get(section), preset.get(section)
        if isinstance(given, Mapping) and isinstance(default, Mapping):
            merged[section] = {**default, **given}
    return merged, []


def _cross_checks(raw: Mapping[str, Json]) -> list[Problem]:
    """Checks between fields, made even where other fields are wrong."""
    problems = []
    if (raw.get("tasks") is None) == (raw.get("stream") is None):
        problems.append(
            Problem("tasks", "give exactly one of `tasks` (a list) or `stream` (one data set, cut)")
        )
    problems += _repeated_names(raw.get("tasks"))
    try:
        methods = TypeAdapter(tuple[AnyMethodConfig, ...]).validate_python(raw.get("methods", ()))
    except ValidationError:
        return problems
    scenario: Any = raw.get("scenario", "class_incremental")
    kind = _field(raw, "model", "kind", "classifier")
    sharding = _field(raw, "scaling", "sharding", "data")
    recomputes = _field(raw, "training", "gradient_checkpointing", "") is True
    if scenario in get_args(Scenario) and kind in get_args(Kind) and sharding in get_args(Sharding):
        problems += stack_problems(methods, scenario, kind, sharding, recomputes)
        problems += _search_problems(raw, methods, sharding)
    return problems


def _search_problems(
    raw: Mapping[str, Json], methods: Sequence[MethodConfig], sharding: Sharding
) -> list[Problem]:
    try:
        settings = StabilityDecaySpec.model_validate(raw.get("stability_decay") or {})
    except ValidationError:
        return []  # said already, of the whole spec
    rate = _field(raw, "training", "learning_rate", "")
    return search_problems(methods, rate, settings, raw.get("joint") is True, sharding)


def _field(raw: Mapping[str, Json], section: str, name: str, default: str) -> Any:
    inside = raw.get(section)
    return inside.get(name, default) if isinstance(inside, Mapping) else default


def _repeated_names(tasks: Any) -> list[Problem]:
    if not isinstance(tasks, list):
        return []
    names = [task.get("name") if isinstance(task, Mapping) else None for task in tasks]
    return [
        Problem(f"tasks[{i}].name", "two tasks have the same name", name)
        for i, name in enumerate(names)
        if isinstance(name, str) and name in names[:i]
    ]


def _missing_files(raw: Mapping[str, Json], folder: Path) -> list[Problem]:
    named = [
        (f"{where}.{split}", section.get(split))
        for where, section in _data_sections(raw)
        for split in SPLITS
    ]
    routing = raw.get("routing")
    if isinstance(routing, Mapping):
        named.append(("routing.out_of_scope", routing.get("out_of_scope")))
    return [
        Problem(where, fault or "no such file or folder", value)
        for where, value in [*named, *_method_uris(raw.get("methods"))]
        if isinstance(value, str) and value
        if (fault := pattern_fault(value)) is not None or not _exists(value, folder)
    ]


def _method_uris(methods: Any) -> Iterator[tuple[str, Any]]:
    """The URIs that methods name, each with the path of its field."""
    for method in methods if isinstance(methods, list | tuple) else ():
        kind = method.get("type") if isinstance(method, Mapping) else None
        config = METHOD_CONFIGS.get(kind) if isinstance(kind, str) else None
        for field in config.uri_fields if config is not None else ():
            uris = method.get(field)
            for uri in uris if isinstance(uris, list | tuple) else ():
                yield f"methods.{kind}.{field}", uri


def _data_sections(raw: Mapping[str, Json]) -> Iterator[tuple[str, Mapping[str, Json]]]:
    tasks = raw.get("tasks")
    stream = raw.get("stream")
    if isinstance(stream, Mapping):
        yield "stream", stream
    for index, task in enumerate(tasks if isinstance(tasks, list) else []):
        if isinstance(task, Mapping):
            yield f"tasks[{index}]", task
    evaluation = raw.get("evaluation")
    retention = evaluation.get("retention") if isinstance(evaluation, Mapping) else None
    if isinstance(retention, Mapping):
        yield "evaluation.retention", retention


def _exists(value: str, folder: Path) -> bool:
    """Whether a path names something, as itself or as a pattern."""
    if "://" in value:
        return True  # looked up when it is read
    try:
        path = absolute_uri(value, folder)
        if Path(path).exists():
            return True
        base, pattern = split_pattern(path)
        return bool(pattern) and any(True for _ in matches(base, pattern, Visits()))
    except (OSError, ValueError):  # a name too long, or with a null in it
        return False
