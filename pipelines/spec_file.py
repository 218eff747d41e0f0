"""Reading a spec from YAML (or a mapping), with every problem reported at once.

Each problem names the path of the field, its value, what is allowed and the nearest valid name.
"""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from pipelines import config
from pipelines.config import UpdateSpec
from pipelines.errors import Problem, SpecError
from pipelines.method_config import METHOD_CONFIGS, AnyMethodConfig, MethodConfig, stack_problems

PRESETS_FOLDER = Path(__file__).parent.parent / "configs" / "presets"


class _Loader(yaml.SafeLoader):
    """`yaml.SafeLoader` that refuses a key given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys: set[Hashable] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            keys.add(key)
        return super().construct_mapping(node, deep)


def load_spec(path: str | Path) -> UpdateSpec:
    """Read a spec file; relative paths in it are taken from the file's folder.

    Raises:
        SpecError: With every problem found: unreadable file, broken YAML, unknown or wrong fields,
            methods that do not compose, local data files that do not exist.
    """
    path = Path(path)
    spec = parse_spec(_read_yaml(path), folder=path.resolve().parent)
    return spec


def parse_spec(raw: Any, folder: Path) -> UpdateSpec:
    """Validate a mapping as a spec; see `load_spec`."""
    if not isinstance(raw, Mapping):
        raise SpecError(
            [Problem("", "a spec is a mapping of fields", raw, "Start from `ratchet schema`")]
        )
    raw, problems = _with_preset(dict(raw))
    spec: UpdateSpec | None = None
    try:
        spec = UpdateSpec.model_validate(raw)
    except ValidationError as error:
        problems += [_problem(detail, raw) for detail in error.errors(include_url=False)]
    problems += _cross_checks(raw)
    problems += _missing_files(raw, folder)
    if problems or spec is None:
        raise SpecError(problems)
    return spec.with_paths_under(folder)


def preset_names() -> list[str]:
    """Names of the presets that ship with Ratchet."""
    return sorted(path.stem for path in PRESETS_FOLDER.glob("*.yaml"))


def read_preset(name: str) -> dict[str, Any]:
    """The fields that a preset sets: `methods`, and by choice `training` and `joint`."""
    return _read_yaml(PRESETS_FOLDER / f"{name}.yaml")


def _read_yaml(path: Path) -> Any:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise SpecError([Problem(str(path), f"the spec cannot be read: {reason}")]) from error
    try:
        return yaml.load(text, Loader=_Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        reason = getattr(error, "problem", None) or "broken"
        raise SpecError([Problem(where, f"not valid YAML: {reason}")]) from error


def _with_preset(raw: dict[str, Any]) -> tuple[dict[str, Any], list[Problem]]:
    name = raw.get("preset")
    if name is None:
        return raw, []
    if name not in preset_names():
        return raw, [_unknown("preset", name, preset_names(), "preset")]
    if raw.get("methods"):
        return raw, [
            Problem("methods", "give either `preset` or `methods`, not both", hint="Remove one")
        ]
    preset = read_preset(name)
    merged = {**preset, **{key: value for key, value in raw.items() if key != "methods"}}
    for section in ("training", "gate"):
        given, default = raw.get(section), preset.get(section)
        if isinstance(given, Mapping) and isinstance(default, Mapping):
            merged[section] = {**default, **given}
    return merged, []


def _cross_checks(raw: Mapping[str, Any]) -> list[Problem]:
    """Checks between fields, made even where other fields are wrong."""
    problems = []
    if (raw.get("tasks") is None) == (raw.get("stream") is None):
        problems.append(
            Problem("tasks", "give exactly one of `tasks` (a list) or `stream` (one data set, cut)")
        )
    tasks = raw.get("tasks")
    if isinstance(tasks, list):
        names = [task.get("name") for task in tasks if isinstance(task, Mapping)]
        problems += [
            Problem(f"tasks[{i}].name", "two tasks have the same name", name)
            for i, name in enumerate(names)
            if name is not None and name in names[:i]
        ]
    methods = raw.get("methods", ())
    try:
        parsed = TypeAdapter(tuple[AnyMethodConfig, ...]).validate_python(methods)
    except ValidationError:
        return problems
    scenario = raw.get("scenario", "class_incremental")
    if scenario in ("class_incremental", "task_incremental", "domain_incremental"):
        problems += stack_problems(parsed, scenario)
    return problems


def _missing_files(raw: Mapping[str, Any], folder: Path) -> list[Problem]:
    sections: list[tuple[str, Any]] = [("stream", raw.get("stream"))]
    if isinstance(raw.get("tasks"), list):
        sections += [(f"tasks[{i}]", task) for i, task in enumerate(raw["tasks"])]
    problems = []
    for where, section in sections:
        if not isinstance(section, Mapping):
            continue
        for split in ("train", "validation", "test"):
            value = section.get(split)
            if isinstance(value, str) and value and not _exists(value, folder):
                problems.append(Problem(f"{where}.{split}", "no such file or folder", value))
    return problems


def _exists(value: str, folder: Path) -> bool:
    if "://" in value:
        return True  # looked up when it is read
    path = Path(config.absolute_uri(value, folder))
    if any(sign in value for sign in "*?["):
        return any(Path(path.anchor).glob(str(path.relative_to(path.anchor))))
    return path.exists()


def _problem(detail: ErrorDetails, raw: Mapping[str, Any]) -> Problem:
    """One pydantic error in Ratchet's words, with the nearest valid name where a name is wrong."""
    location = [part for part in detail["loc"] if part not in METHOD_CONFIGS]
    where = _path(location)
    value = detail.get("input")
    match detail["type"]:
        case "extra_forbidden":
            fields = list(_model_at(location[:-1], raw).model_fields)
            return _unknown(where, str(location[-1]), fields, "field")
        case "missing":
            return Problem(where, "this field is required")
        case "union_tag_invalid":
            kind = value.get("type") if isinstance(value, Mapping) else value
            return _unknown(f"{where}.type", kind, list(METHOD_CONFIGS), "method")
        case "union_tag_not_found":
            return Problem(
                f"{where}.type",
                f"a method needs a type, one of: {', '.join(METHOD_CONFIGS)}",
                value,
            )
        case "literal_error":
            allowed = detail["ctx"]["expected"].replace("'", "").replace(" or ", ", ").split(", ")
            return _unknown(where, value, allowed, "value")
        case _:
            message = detail["msg"].removeprefix("Value error, ")
            return Problem(where, message[0].lower() + message[1:], value)


def _unknown(where: str, value: Any, allowed: Iterable[str], noun: str) -> Problem:
    allowed = list(allowed)
    near = difflib.get_close_matches(str(value), allowed, n=1)
    hint = f"Did you mean {near[0]!r}?" if near else ""
    return Problem(where, f"unknown {noun}; allowed: {', '.join(allowed)}", value, hint)


def _path(location: Iterable[int | str]) -> str:
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def _model_at(location: list[int | str], raw: Any) -> type[BaseModel]:
    """The config class that validates the section at `location`."""
    if not location:
        return UpdateSpec
    if location[0] == "methods" and len(location) > 1 and isinstance(location[1], int):
        return METHOD_CONFIGS.get(raw["methods"][location[1]].get("type"), MethodConfig)
    sections: dict[str, type[BaseModel]] = {
        "model": config.ModelSpec,
        "tasks": config.TaskSpec,
        "stream": config.StreamSpec,
        "columns": config.ColumnsSpec,
        "data": config.DataSpec,
        "training": config.TrainingSpec,
        "scaling": config.ScalingSpec,
        "gate": config.GateSpec,
        "routing": config.RoutingSpec,
        "tune": config.TuneSpec,
    }
    return sections.get(str(location[0]), UpdateSpec)
